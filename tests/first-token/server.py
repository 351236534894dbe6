"""llama.cpp's own HTTP server in front of a model: python server.py MODEL

Prints its base URL when it is ready; ends when its input does.
"""

import sys

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.hostnames = ["127.0.0.1"]
params.port = 0
params.n_ctx = 512
params.n_predict = 24
params.cpuparams.n_threads = 1
params.warmup = True
# The same request gets the same response, however often it is sent.
params.cache_prompt = False
params.sampling.temp = 0
server = xllamacpp.Server(params)
print(f"{server.listening_address}/v1", flush=True)
sys.stdin.read()
