async for data in ws.iter_bytes():
    process_binary(data)
