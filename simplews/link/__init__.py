"""One open WebSocket, whatever carries it. Speaks messages."""
