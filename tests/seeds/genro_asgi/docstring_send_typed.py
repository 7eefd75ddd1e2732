await ws.send_typed({
    "price": Decimal("100.50"),
    "created": datetime.now(),
})
# Sends: {"price": "100.50::D", "created": "2025-01-15T12:30:00::dt"}::TYTX
