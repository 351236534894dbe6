"""Starts the proxies, all configured for the same work: check the client's key (401), replace it with the upstream's key, keep upstream
connections open, buffer nothing, TLS 1.3 on a separate listener, log a line of JSON for each request."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import machine
from machine import Missing
from stage import CALLER_KEY, ROUTE, UPSTREAM_KEY, Program, Stage, ask, content, free_ports, key_hash

FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
OVER_HTTP2 = "/http2"

# What `everything` adds to the gateway's route and to its tables: every request is checked, counted by limits that admit it, and traced; a tenth of the traces is exported.
EVERYTHING_ROUTE = 'commit = "first_token"\nvalidate = "basic"\nusage = "always"\nlimits = ["fair-use"]'
EVERYTHING = '''
[limit.fair-use]
each = "client"
requests = 100_000_000
tokens = 100_000_000_000
per = "1m"
concurrent = 100_000
[otlp]
endpoint = "http://127.0.0.1:{collector}"
sample = 0.1
'''


@dataclass(frozen=True)
class Setup:
    """How the proxies of a run are configured."""

    threads: int = 1
    pinned: bool = True
    everything: bool = False
    # More lines for the gateway's route, and more tables.
    route: str = ""
    more: str = ""
    # The port of an upstream in place of the simulator, whose answers are not checked then.
    upstream: int = 0
    # The minimal proxy of hyper, where it is one of the programs.
    minimal: Path | None = None
    # The command that runs the program, such as valgrind's; empty if it runs by itself.
    under: tuple[str, ...] = ()


def proxy(made: Stage, kind: str, setup: Setup, name: str | None = None) -> Program:
    """Starts one of the proxies, `sluicegate`, `nginx`, `haproxy` or `minimal`, and checks that it works."""
    plain, tls, admin = free_ports(3)
    program = Program(name or kind, plain, tls, admin=admin if kind == "sluicegate" and setup.everything else 0)
    folder = made.folder / f"{program.name}-{program.plain}"
    folder.mkdir()
    program.patient = bool(setup.under)
    command = COMMANDS[kind](made, program, setup, folder)
    made.spawn(program, [*setup.under, *command], machine.proxy_cpus() if setup.pinned else None)
    if not setup.upstream:
        check(made, program, setup)
    return program


def check(made: Stage, program: Program, setup: Setup) -> None:
    """Checks that a proxy does its work: it refuses a wrong key, and passes the upstream's answer on whole."""
    expected = content(ask(made, made.direct, False, "sim-f40")[1])
    # No TLS where instructions are counted: collecting entropy at its start takes a different number of them each time.
    for tls in (False,) if setup.under else (False, True):
        status, _ = ask(made, program, tls, "sim-f40", "sk-wrong")
        if status != 401:
            raise Missing(f"{program.name} answers a wrong key with {status} instead of 401")
        status, body = ask(made, program, tls, "sim-f40")
        if status != 200 or content(body) != expected:
            raise Missing(f"{program.name} answers {status}, and a body that differs from the simulator's: {body[:300]!r}")



def sluicegate(stage: Stage, program: Program, setup: Setup, folder: Path) -> list[str]:
    certs = stage.folder / "certs"
    upstream = f'url = "http://127.0.0.1:{setup.upstream or stage.direct.plain}"'
    if setup.everything:
        upstream = f'url = "https://localhost:{stage.secure.tls}"\ntls = {{ ca = "{stage.ca}" }}'
    admin = f'[admin]\naddress = "127.0.0.1:{program.admin}"' if program.admin else ""
    route, tables = (EVERYTHING_ROUTE, EVERYTHING.format(collector=collector(stage))) if setup.everything else ("", "")
    config = folder / "gateway.toml"
    config.write_text(f"""
[[listener]]
address = "127.0.0.1:{program.plain}"
[[listener]]
address = "127.0.0.1:{program.tls}"
tls = {{ certificate = "{certs}/server.pem", key = "{certs}/server.key", min_version = "1.3" }}
[server]
threads = {setup.threads}
{admin}
[upstream.simulator]
{upstream}
key = {{ env = "LOAD_UPSTREAM_KEY" }}
[route.openai]
path = "/v1"
upstreams = ["simulator"]
{route}
{setup.route}
[client.load]
key = "{key_hash()}"
{tables}
{setup.more}
""")
    return [str(stage.binary), "serve", "--config", str(config)]


def collector(stage: Stage) -> int:
    """The port of the collector of traces, which is started if it does not run."""
    for program in stage.started:
        if program.name == "collector":
            return program.plain
    program = Program("collector", free_ports(1)[0], 0)
    script = Path(__file__).parent / "collector.py"
    stage.spawn(program, [sys.executable, "-B", str(script), str(program.plain)], machine.other_cpus())
    return program.plain


def over_http2(stage: Stage, next: Program) -> str:
    """Tables for a gateway that sends a route's requests to the `next` gateway over HTTP/2."""
    return f"""
[upstream.next]
url = "https://localhost:{next.tls}"
tls = {{ ca = "{stage.ca}" }}
http2 = true
key = {{ env = "LOAD_CALLER_KEY" }}
[route.next]
path = "{OVER_HTTP2}"
rewrite = "{ROUTE}"
upstreams = ["next"]
"""


def nginx(stage: Stage, program: Program, setup: Setup, folder: Path) -> list[str]:
    certs = stage.folder / "certs"
    scheme, port, trust = "http", setup.upstream or stage.direct.plain, ""
    if setup.everything:
        scheme, port = "https", stage.secure.tls
        trust = f"""proxy_ssl_verify on; proxy_ssl_trusted_certificate {stage.ca}; proxy_ssl_protocols TLSv1.3;
    proxy_ssl_name localhost; proxy_ssl_server_name on;"""
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n  " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(f"""
daemon off;
{"master_process off;" if setup.under else ""}
{"user root;" if os.geteuid() == 0 else ""}
worker_processes {setup.threads};
worker_rlimit_nofile {FILES};
pid {folder}/pid;
error_log {folder}/error.log warn;
events {{ worker_connections {FILES - 100}; }}
http {{
  log_format json escape=json '{{"time":"$time_iso8601","client":"$remote_addr","method":"$request_method","path":"$uri",'
    '"status":$status,"bytes_in":$request_length,"bytes_out":$body_bytes_sent,"total":$request_time,'
    '"first_byte":"$upstream_header_time","upstream":"$upstream_addr","request_id":"$request_id"}}';
  access_log {folder}/access.log json buffer=64k flush=1s;
  {temporary}
  client_body_buffer_size 512k;
  client_max_body_size 32m;
  keepalive_requests 1000000000;
  map $http_authorization $known {{ default 0; "Bearer {CALLER_KEY}" 1; }}
  upstream simulator {{ server 127.0.0.1:{port}; keepalive 4096; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{program.plain} backlog=4096;
    listen 127.0.0.1:{program.tls} ssl backlog=4096;
    ssl_certificate {certs}/server.pem;
    ssl_certificate_key {certs}/server.key;
    ssl_protocols TLSv1.3;
    {trust}
    location / {{
      if ($known = 0) {{ return 401; }}
      proxy_pass {scheme}://simulator;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Authorization "Bearer {UPSTREAM_KEY}";
      proxy_buffering off;
      proxy_read_timeout 600s;
    }}
  }}
}}
""")
    return [needed("nginx"), "-p", str(folder), "-c", str(config)]


def haproxy(stage: Stage, program: Program, setup: Setup, folder: Path) -> list[str]:
    port, trust = setup.upstream or stage.direct.plain, ""
    if setup.everything:
        port = stage.secure.tls
        trust = f"ssl verify required ca-file {stage.ca} sni str(localhost) verifyhost localhost"
    config = folder / "haproxy.cfg"
    config.write_text(f"""
global
  nbthread {setup.threads}
  maxconn {FILES // 2 - 100}
  log stdout format raw daemon
  ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
  mode http
  log global
  log-format '{{"time":"%Tl","client":"%ci","method":"%HM","path":"%HP","status":%ST,"bytes_in":%U,"bytes_out":%B,"total_ms":%Ta,"first_byte_ms":%Tr,"upstream":"%s","end":"%ts"}}'
  option http-keep-alive
  option http-no-delay
  option abortonclose
  http-reuse always
  timeout connect 5s
  timeout client 600s
  timeout server 600s
frontend callers
  bind 127.0.0.1:{program.plain} backlog 4096
  bind 127.0.0.1:{program.tls} backlog 4096 ssl crt {stage.folder}/certs/both.pem alpn http/1.1
  http-request deny deny_status 401 unless {{ req.hdr(authorization) -m str "Bearer {CALLER_KEY}" }}
  http-request set-header authorization "Bearer {UPSTREAM_KEY}"
  default_backend simulator
backend simulator
  server simulator 127.0.0.1:{port} pool-max-conn -1 {trust}
""")
    return [needed("haproxy"), "-db", "-f", str(config)]


def minimal(stage: Stage, program: Program, setup: Setup, _folder: Path) -> list[str]:
    """benches/tools/minimal.rs, which knows no TLS."""
    assert setup.minimal
    program.tls = 0
    return [str(setup.minimal), "--listen", f"127.0.0.1:{program.plain}", "--upstream", f"127.0.0.1:{setup.upstream or stage.direct.plain}"]


COMMANDS: dict[str, Callable[[Stage, Program, Setup, Path], list[str]]] = {
    "sluicegate": sluicegate,
    "nginx": nginx,
    "haproxy": haproxy,
    "minimal": minimal,
}


def installed() -> list[str]:
    """The peers that are installed."""
    return [name for name in ("nginx", "haproxy") if machine.find(name)]


def needed(program: str) -> str:
    found = machine.find(program)
    if not found:
        raise Missing(f"{program} is not installed (Debian: apt-get install {program})")
    return found
