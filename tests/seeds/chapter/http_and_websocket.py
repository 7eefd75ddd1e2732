async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await handle_lifespan(receive, send)
    elif scope["type"] == "http":
        await handle_http(scope, receive, send)
    elif scope["type"] == "websocket":
        path = scope["path"]
        if path == "/ws/chat":
            await handle_websocket(scope, receive, send)
        elif path == "/ws/echo":
            await echo_websocket(scope, receive, send)
        else:
            # Reject unknown WebSocket paths
            event = await receive()
            if event["type"] == "websocket.connect":
                await send({"type": "websocket.close", "code": 4004})
    else:
        pass  # Unknown scope type, ignore


async def handle_http(scope, receive, send):
    await read_body(receive)
    path = scope["path"]

    if path == "/":
        # Serve a simple HTML page with a WebSocket client
        html = """
        <!DOCTYPE html>
        <html>
        <head><title>WebSocket Chat</title></head>
        <body>
            <input id="msg" placeholder="Message..." />
            <button onclick="send()">Send</button>
            <ul id="log"></ul>
            <script>
                const ws = new WebSocket("ws://" + location.host + "/ws/chat");
                ws.onmessage = e => {
                    const li = document.createElement("li");
                    li.textContent = e.data;
                    document.getElementById("log").appendChild(li);
                };
                function send() {
                    const input = document.getElementById("msg");
                    ws.send(JSON.stringify({text: input.value}));
                    input.value = "";
                }
            </script>
        </body>
        </html>
        """.encode("utf-8")

        await send({
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"text/html; charset=utf-8"),
                (b"content-length", str(len(html)).encode()),
            ],
        })
        await send({
            "type": "http.response.body",
            "body": html,
            "more_body": False,
        })
    else:
        body = b"Not Found"
        await send({
            "type": "http.response.start",
            "status": 404,
            "headers": [(b"content-type", b"text/plain"),
                        (b"content-length", str(len(body)).encode())],
        })
        await send({"type": "http.response.body", "body": body, "more_body": False})
