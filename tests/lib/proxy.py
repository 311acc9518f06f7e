"""A TCP relay between the server and MySQL that breaks connections at chosen moments.

It looks for the statement COMMIT in what the client sends and asks decide() what becomes of it:
  "pass"       nothing happens
  "no_answer"  MySQL gets and carries out the COMMIT, the client never hears of it
  "no_request" MySQL never gets it
cut() ends all connections at once; refuse() ends new ones until allow().
"""

import socket
import threading
import time


class Proxy:
    def __init__(self, target_port, decide=lambda: "pass"):
        self.target_port = target_port
        self.decide = decide
        self.counts = {"pass": 0, "no_answer": 0, "no_request": 0}
        self.refusing = False
        self.pairs = []
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.refusing:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target_port), 5)
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.settimeout(None)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = {"client": client, "server": server, "mute": False}
            with self.lock:
                self.pairs.append(pair)
            threading.Thread(target=self._requests, args=(pair,), daemon=True).start()
            threading.Thread(target=self._answers, args=(pair,), daemon=True).start()

    def _end(self, pair):
        for name in ("client", "server"):
            try:
                pair[name].shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        with self.lock:
            if pair in self.pairs:
                self.pairs.remove(pair)

    def _requests(self, pair):
        try:
            while True:
                data = pair["client"].recv(262144)
                if not data:
                    break
                if data.endswith(b"\x03COMMIT"):
                    what = self.decide()
                    self.counts[what] += 1
                    if what == "no_request":
                        break
                    pair["mute"] = what == "no_answer"
                pair["server"].sendall(data)
        except OSError:
            pass
        self._end(pair)

    def _answers(self, pair):
        try:
            while True:
                data = pair["server"].recv(262144)
                if not data or pair["mute"]:
                    break  # the COMMIT has been carried out, since its answer is here
                pair["client"].sendall(data)
        except OSError:
            pass
        self._end(pair)

    def cut(self):
        with self.lock:
            pairs = list(self.pairs)
        for pair in pairs:
            self._end(pair)

    def refuse(self):
        self.refusing = True
        self.cut()

    def allow(self):
        self.refusing = False

    def close(self):
        self.listener.close()
        self.cut()
