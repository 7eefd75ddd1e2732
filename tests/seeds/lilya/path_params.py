from lilya.websockets import WebSocket

websocket = WebSocket(scope, receive, send)

websocket.path_params['username']
