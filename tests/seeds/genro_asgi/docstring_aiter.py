async for message in ws:  # Same as: async for message in ws.iter_text()
    handle_message(message)
