"""What the page starts as its preview worker in a campaign: hands its streams to a forked worker and waits for its end."""

import json
import socket
import sys

address, folder, *argv = sys.argv[1:]
connection = socket.socket(socket.AF_UNIX)
connection.connect(address)
request = {"what": "preview-worker", "argv": argv, "folder": folder, "fault": {}}
socket.send_fds(connection, [json.dumps(request).encode()], (0, 1, 2))
while connection.recv(4096):
    pass
