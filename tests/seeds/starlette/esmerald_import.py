from esmerald import WebSocket
