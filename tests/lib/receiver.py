"""An HTTP server that takes what webhooks send, and misbehaves on demand."""

import http.server
import json
import threading


class Receiver:
    """Answers POSTs with STATUS; remembers all of them in .posts."""

    def __init__(self, port=0, status=200):
        self.status = status
        self.headers = {}
        self.hanging = False  # takes a request and never answers it
        self.lock = threading.Lock()
        self.posts = []
        self.hung = 0
        self.released = threading.Event()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if receiver.hanging:
                    with receiver.lock:
                        receiver.hung += 1
                    receiver.released.wait(300)
                    self.close_connection = True
                    return
                with receiver.lock:
                    receiver.posts.append((self.path, dict(self.headers), json.loads(body), receiver.status))
                    status, headers = receiver.status, dict(receiver.headers)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        class Listener(http.server.ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_):
                pass  # a server that is killed in the middle of a request

        self.listener = Listener(("127.0.0.1", port), Handler)
        self.port = self.listener.server_address[1]
        self.thread = threading.Thread(target=self.listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def url(self, path="/hook"):
        return "http://127.0.0.1:%d%s" % (self.port, path)

    def taken(self):
        """Bodies answered with success, in order."""
        with self.lock:
            return [body for _, _, body, status in self.posts if 200 <= status < 300]

    def all(self):
        with self.lock:
            return list(self.posts)

    def close(self):
        self.released.set()
        self.listener.shutdown()
        self.listener.server_close()
        self.thread.join(10)
