from lilya.websockets import WebSocket

websocket = WebSocket(scope, receive, send)

websocket.query_params['search']
