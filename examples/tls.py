"""
TLS: a wss:// server with a certificate, and a client that checks it.

The certificate is made on the spot by trustme (python -m pip install trustme),
or is yours: PEM files, as a certificate authority hands them out.

Start:  python examples/tls.py [HOST [PORT [CERTIFICATE KEY]]]
See:    Serving on wss://localhost:...
        with trust:    Hello
        without trust: the certificate of localhost:... is not accepted: ...
"""

import asyncio
import ssl
import sys

from simplews import AioClient, AioServer, ConnectionError, serve


async def hello(ws: AioServer) -> None:
    await ws.send("Hello")


def own_authority(host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts for both sides, with a certificate authority that nobody else trusts."""
    import trustme

    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host).configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


def from_files(certificate: str, key: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts for both sides; the client trusts this very certificate, too."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context()
    client.load_verify_locations(certificate)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # whoever issued it
    return server, client


async def main(host: str = "localhost", port: str = "0", *files: str) -> None:
    server_context, client_context = from_files(*files) if files else own_authority(host)
    async with serve(hello, host, int(port), ssl=server_context) as server:
        url = f"wss://{host}:{server.port}"
        print("Serving on", url)
        async with AioClient.connect(url, ssl_context=client_context) as ws:
            print("with trust:   ", await ws.receive())
        try:
            await AioClient.connect(url)  # trusts what the system trusts
        except ConnectionError as error:
            print("without trust:", error)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
