"""Keys and certificates of a test, made by the openssl command, and contexts that use them."""

import os
import ssl

import procs

NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"


class Certificates:
    """Files in a directory of their own: NAME.pem and NAME.key."""

    def __init__(self, directory):
        self.dir = directory
        os.makedirs(directory, exist_ok=True)
        os.chmod(directory, 0o755)

    def path(self, name):
        return os.path.join(self.dir, name)

    def _openssl(self, *args):
        procs.run(["openssl", *args], cwd=self.dir)

    def authority(self, name="ca"):
        """A certificate that signs itself and others."""
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
            "-subj", "/CN=" + name, "-keyout", name + ".key", "-out", name + ".pem",
        )
        return self.path(name + ".pem")

    def signed(self, name, ca="ca", names=NAMES, days=30):
        """A certificate of CA's for NAMES; with DAYS below 0 it has ended."""
        with open(self.path(name + ".ext"), "w") as file:
            file.write(names + "\n")
        self._openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-subj", "/CN=" + name, "-keyout", name + ".key", "-out", name + ".csr",
        )
        self._openssl(
            "x509", "-req", "-in", name + ".csr", "-CA", ca + ".pem", "-CAkey", ca + ".key",
            "-days", str(days), "-extfile", name + ".ext", "-out", name + ".pem",
        )
        # A server under another account must be able to read its key.
        os.chmod(self.path(name + ".key"), 0o644)
        return self.path(name + ".pem")

    def client(self, ca="ca", own=None, version=None):
        """A context that trusts CA and shows the certificate OWN; VERSION: that one only."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.path(ca + ".pem"))
        if own is not None:
            context.load_cert_chain(self.path(own + ".pem"), self.path(own + ".key"))
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context
