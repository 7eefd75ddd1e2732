from lilya.websockets import WebSocketClose

close_app = WebSocketClose(code=1000, reason="done")
