"""A request over TLS, to a worker whose certificate comes from an authority of our own.

python -m examples.tls
"""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

import trustme
import uvloop

from dynamo_h2 import ConnectError, HttpRequestClient
from examples.local_worker import local_worker


async def main(url: str, authority: trustme.CA) -> None:
    """Sends a request with and without trust in the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with HttpRequestClient(ssl_context=context) as client:
        response = await client.request("POST", f"{url}/echo", body=b"a secret")
        print(f"over TLS and {response.http_version}:", response.text)

    async with HttpRequestClient() as stranger:
        try:
            await stranger.send_request(f"{url}/echo", b"a secret")
        except ConnectError as error:
            print("without trust, and before anything was sent:", error)


if __name__ == "__main__":
    certificates = trustme.CA()
    leaf = certificates.issue_cert("127.0.0.1")
    with tempfile.TemporaryDirectory() as directory:
        chain, key = Path(directory, "chain.pem"), Path(directory, "key.pem")
        leaf.private_key_pem.write_to_path(key)
        for pem in leaf.cert_chain_pems:
            pem.write_to_path(chain, append=True)
        options = ("--ssl-certificate", str(chain), "--ssl-keyfile", str(key))
        with local_worker(*options, scheme="https") as worker_url:
            uvloop.run(main(worker_url, certificates))
