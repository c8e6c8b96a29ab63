"""The small program that outlives the node: it starts containers' processes, keeps their logs and their exit codes.

Comes in: requests as JSON lines on a Unix socket (start, stop, list), and sessions (exec, attach) as frames on
connections of their own. Goes out: answers and exits as JSON lines; per attempt a log file in CRI format and a state
file (pid while it runs, exit code afterwards). When the node is killed, containers run on, are logged, and their exit
codes wait in the state files; a node that comes back connects to the same socket. Sessions of exec end with their
connection. Without containers and without connections it ends by itself.

Run as ``python -I -S supervisor.py <socket> <idle seconds>``: standard library only, nothing imported that it does not
need, one thread, so that a fork is cheap (2-3 ms to start a container, measured) and safe. It is a program of its own
and therefore reads the time itself. Log format: kubelet ``pkg/kubelet/kuberuntime/logs`` (CRI), rotation as kubelet's
containerLogMaxSize 10Mi and containerLogMaxFiles 5.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import resource
import select
import selectors
import signal
import socket
import struct
import sys
import termios
import time
from collections.abc import Callable
from typing import Any

STDIN, STDIN_END, RESIZE = 0, 1, 2
STDOUT, STDERR, EXIT, FAILED = 1, 2, 3, 4
FRAME = struct.Struct(">BI")

LOG_BYTES = 10 * 1024 * 1024
LOG_FILES = 5
LINE_BYTES = 16 * 1024
"""Longer lines are cut in partial (P) entries, as containerd does."""
CHUNK_BYTES = 64 * 1024
BUFFER_BYTES = 1024 * 1024
"""A session that is not read stops its command here; an attached reader this far behind is dropped. Input that the
program does not read stops here too."""
HUNG_UP_SECONDS = 1.0
"""How often a session that is not listened to, since its program takes no input, is asked whether it is still there."""
DRAIN_SECONDS = 0.25
"""How long output is awaited from whoever still holds the pipe after the main process ended."""

FILES, HARD_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)
"""How many files whoever started us may open: so many may containers; the supervisor itself needs three for each."""

SESSIONS = ("exec", "attach")

Key = tuple[str, str, int]


class Log:
    """One attempt's log: ``<time> <stream> <F|P> <line>``; rotated by size."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._rest = {"stdout": b"", "stderr": b""}
        self._second = -1
        self._prefix = ""
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    def _stamp(self) -> bytes:
        now = time.time_ns()
        second, nanos = divmod(now, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{nanos:09d}Z ".encode()

    def write(self, stream: str, data: bytes) -> None:
        lines = (self._rest[stream] + data).split(b"\n")
        rest = lines.pop()
        head = self._stamp() + stream.encode()
        full, part = head + b" F ", head + b" P "
        out = []
        for line in lines:
            line = line.removesuffix(b"\r")  # as containerd's reader of lines does
            while len(line) > LINE_BYTES:
                out.append(part + line[:LINE_BYTES] + b"\n")
                line = line[LINE_BYTES:]
            out.append(full + line + b"\n")
        while len(rest) >= LINE_BYTES:
            out.append(part + rest[:LINE_BYTES] + b"\n")
            rest = rest[LINE_BYTES:]
        self._rest[stream] = rest
        self._put(b"".join(out))

    def _put(self, data: bytes) -> None:
        if not data or self._fd < 0:
            return
        try:
            self._size += os.write(self._fd, data)
        except OSError:  # a full disk costs log lines, not the container
            return
        if self._size >= LOG_BYTES:
            self._rotate()

    def _rotate(self) -> None:
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        with contextlib.suppress(OSError):
            os.rename(self._path, f"{self._path}.{stamp}")
            os.close(self._fd)
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._size = 0
        with contextlib.suppress(OSError):
            folder, name = os.path.split(self._path)
            old = sorted(each for each in os.listdir(folder) if each.startswith(name + "."))
            for each in old[: max(0, len(old) - (LOG_FILES - 1))]:
                os.unlink(os.path.join(folder, each))

    def close(self) -> None:
        for stream, rest in self._rest.items():
            if rest:
                self._put(self._stamp() + stream.encode() + b" P " + rest + b"\n")
        self._rest = {"stdout": b"", "stderr": b""}
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Process:
    """One started program: its pid, its pipes and who is told of its output and end."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.key: Key | None = None
        self.session: Connection | None = None
        self.attached: list[Connection] = []
        self.state_path = ""
        self.started_ns = time.time_ns()
        self.log: Log | None = None
        self.outputs: dict[int, str] = {}
        self.stdin_fd = -1
        self.stdin_rest = b""
        self.stdin_ends = False
        self.stdin_once = False
        self.tty_fd = -1
        self.kill_at = float("inf")
        self.drain_until = float("inf")
        self.exit: tuple[int, int] | None = None
        self.finished_ns = 0
        self.stoppers: list[tuple[Connection, Any]] = []


class Connection:
    """One client: a control connection of JSON lines, or the one session of an exec or attach.

    What a client is for shows in its first request. Until then it hears no news: the first line a session reads is the
    answer to its request.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.inbox = b""
        self.outbox = bytearray()
        self.process: Process | None = None
        self.control = False
        self.attaching = False
        self.closing = False

    def frame(self, kind: int, payload: bytes) -> None:
        self.outbox += FRAME.pack(kind, len(payload)) + payload

    def line(self, message: dict[str, Any]) -> None:
        self.outbox += json.dumps(message).encode() + b"\n"


class SpawnFailed(Exception):
    """The program could not be started; the text says why in the words of the system."""


def spawn(request: dict[str, Any], stdin: int, stdout: int, stderr: int, tty: bool) -> int:
    """The pid of the started program, leader of its own session; raises ``SpawnFailed``."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _become(request, stdin, stdout, stderr, tty, write_end)
    os.close(write_end)
    trouble = os.read(read_end, 4096)
    os.close(read_end)
    if trouble:
        os.waitpid(pid, 0)
        raise SpawnFailed(trouble.decode(errors="replace"))
    return pid


def _become(request: dict[str, Any], stdin: int, stdout: int, stderr: int, tty: bool, trouble_fd: int) -> None:
    argv = request["argv"]
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, HARD_FILES))
        for target, source in enumerate((stdin, stdout, stderr)):
            os.dup2(source, target)
        if tty:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        for number in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o022)
        try:
            os.chdir(request["cwd"])
        except OSError as error:
            raise OSError(error.errno, f'chdir to cwd ("{request["cwd"]}"): {os.strerror(error.errno or 0)}') from None
        limits = request.get("rlimits")
        if limits:
            for name, value in limits.items():
                resource.setrlimit(getattr(resource, name), (value, value))
        os.execvpe(argv[0], argv, request["env"])
    except OSError as error:
        text = error.strerror or str(error)
        if error.errno == errno.ENOENT and "chdir" not in text:
            where = "no such file or directory" if "/" in argv[0] else "executable file not found in $PATH"
            text = f'exec: "{argv[0]}": {where}'
        elif "chdir" not in text:
            text = f'exec: "{argv[0]}": {text.lower()}'
        os.write(trouble_fd, text.encode())
    except BaseException as error:  # noqa: BLE001 - a forked child must not return into the loop
        os.write(trouble_fd, repr(error).encode())
    os._exit(127)


class Supervisor:
    """The loop: one selector over the socket, connections, pipes and the signal of a dead child."""

    def __init__(self, path: str, idle_seconds: float) -> None:
        self._idle_seconds = idle_seconds
        self._selector = selectors.DefaultSelector()
        self._by_pid: dict[int, Process] = {}
        self._by_key: dict[Key, Process] = {}
        self._dying: list[Process] = []
        self._connections: dict[int, Connection] = {}
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        temporary = f"{path}.{os.getpid()}"
        self._listener.bind(temporary)
        self._listener.listen(64)
        os.rename(temporary, path)  # whoever sees the name can connect
        self._inode = os.stat(path).st_ino
        self._watch(self._listener.fileno(), selectors.EVENT_READ, self._accept)
        wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self._watch(wake_read, selectors.EVENT_READ, lambda: self._woken(wake_read))
        self._idle_since = time.monotonic_ns()

    def _watch(self, fd: int, events: int, callback: Callable[[], None]) -> None:
        self._selector.register(fd, events, callback)

    def run(self) -> None:
        while True:
            ready = self._selector.select(self._timeout())
            if self._by_pid or self._dying or self._connections:
                self._idle_since = time.monotonic_ns()  # what ends in this turn was there until now
            for key, _ in ready:
                if self._selector.get_map().get(key.fd) is key:
                    key.data()
            self._due()
            for connection in tuple(self._connections.values()):
                self._flush(connection)
            busy = self._by_pid or self._dying or self._connections
            if not busy and time.monotonic_ns() - self._idle_since >= self._idle_seconds * 1e9:
                with contextlib.suppress(OSError):
                    if os.stat(self._path).st_ino == self._inode:  # another one may have the name by now
                        os.unlink(self._path)
                return

    def _timeout(self) -> float | None:
        now = time.monotonic_ns() / 1e9
        moments = [min(each.kill_at, each.drain_until) for each in (*self._by_pid.values(), *self._dying)]
        if not self._by_pid and not self._connections:
            moments.append(self._idle_since / 1e9 + self._idle_seconds)
        if any(
            each.process is not None and each.fd not in self._selector.get_map() for each in self._connections.values()
        ):
            moments.append(now + HUNG_UP_SECONDS)
        soonest = min(moments, default=float("inf"))
        return None if soonest == float("inf") else max(0.0, soonest - now)

    def _due(self) -> None:
        now = time.monotonic_ns() / 1e9
        for process in tuple(self._by_pid.values()):
            if now >= process.kill_at:
                process.kill_at = float("inf")
                self._signal_group(process, signal.SIGKILL)
        for process in tuple(self._dying):
            if now >= process.drain_until or not process.outputs:
                self._ended(process)

    # -- connections

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setblocking(False)
        connection = Connection(sock)
        self._connections[connection.fd] = connection
        self._watch(connection.fd, selectors.EVENT_READ, lambda: self._readable(connection))

    def _readable(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        connection.inbox += data
        if connection.process is None:
            while b"\n" in connection.inbox and connection.process is None:
                line, connection.inbox = connection.inbox.split(b"\n", 1)
                self._request(connection, json.loads(line))
        if connection.process is not None:
            self._frames(connection, connection.process)

    def _frames(self, connection: Connection, process: Process) -> None:
        while len(connection.inbox) >= FRAME.size:
            kind, length = FRAME.unpack_from(connection.inbox)
            if len(connection.inbox) < FRAME.size + length:
                return
            payload = connection.inbox[FRAME.size : FRAME.size + length]
            connection.inbox = connection.inbox[FRAME.size + length :]
            if kind == STDIN:
                process.stdin_rest += payload
                self._feed(process)
            elif kind == STDIN_END:
                if not connection.attaching or process.stdin_once:
                    process.stdin_ends = True
                    self._feed(process)
                elif connection in process.attached:  # whose input has ended leaves; the next one may go on with it
                    process.attached.remove(connection)
                    connection.closing = True
            elif kind == RESIZE and process.tty_fd >= 0:
                width, height = struct.unpack(">HH", payload)
                with contextlib.suppress(OSError):
                    fcntl.ioctl(process.tty_fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def _flush(self, connection: Connection) -> None:
        if connection.outbox:
            try:
                sent = connection.sock.send(connection.outbox)
                del connection.outbox[:sent]
            except BlockingIOError:
                pass
            except OSError:
                self._drop(connection)
                return
        if connection.closing and not connection.outbox:
            self._drop(connection)
            return
        if connection.attaching and len(connection.outbox) > BUFFER_BYTES:
            self._drop(connection)
            return
        process = connection.process
        if process is not None and process.session is connection:
            for fd in process.outputs:
                self._reading(process, fd, len(connection.outbox) <= BUFFER_BYTES)
        full = process is not None and len(process.stdin_rest) > BUFFER_BYTES
        if full and hung_up(connection.fd):
            self._drop(connection)
            return
        wanted = (0 if full else selectors.EVENT_READ) | (selectors.EVENT_WRITE if connection.outbox else 0)
        known = self._selector.get_map().get(connection.fd)
        if known is not None and known.events == wanted:
            return
        if known is not None:
            self._selector.unregister(connection.fd)
        if wanted:
            self._watch(connection.fd, wanted, lambda: self._readable(connection))

    def _drop(self, connection: Connection) -> None:
        if self._connections.pop(connection.fd, None) is None:
            return
        if connection.fd in self._selector.get_map():
            self._selector.unregister(connection.fd)
        connection.sock.close()
        process = connection.process
        if process is None:
            return
        if connection in process.attached:
            process.attached.remove(connection)
            if process.stdin_once and not process.attached:
                process.stdin_ends = True
                self._feed(process)
        if process.session is connection:
            process.session = None
            if process.exit is None:
                self._signal_group(process, signal.SIGKILL)

    # -- requests

    def _request(self, connection: Connection, request: dict[str, Any]) -> None:
        operation, number = request["op"], request.get("id")
        connection.control = operation not in SESSIONS
        try:
            if operation == "start":
                answer = self._start(request)
            elif operation == "stop":
                if self._stop(connection, request):
                    return  # answered when it is gone
                answer = {}
            elif operation == "idle":
                self._idle_seconds = request["seconds"]
                answer = {}
            elif operation == "list":
                answer = {"running": [[*key, each.pid] for key, each in self._by_key.items()]}
            elif operation == "exec":
                answer = self._exec(connection, request)
            elif operation == "attach":
                answer = self._attach(connection, request)
            else:
                answer = {"error": f"unknown operation {operation}"}
        except SpawnFailed as error:
            answer = {"error": str(error)}
        except OSError as error:
            answer = {"error": error.strerror or str(error)}
        connection.line({"id": number, **answer})

    def _start(self, request: dict[str, Any]) -> dict[str, Any]:
        key: Key = (request["uid"], request["container"], request["attempt"])
        known = self._by_key.get(key)
        if known is not None:
            return {"pid": known.pid, "started": known.started_ns}
        log = Log(request["log"])
        try:
            process = self._launch(request, keep_stdin=request["stdin"])
        except (SpawnFailed, OSError):
            log.close()
            raise
        process.key, process.log, process.state_path = key, log, request["state"]
        process.stdin_once = request["stdin_once"]
        self._by_key[key] = process
        self._keep(process)
        return {"pid": process.pid, "started": process.started_ns}

    def _launch(self, request: dict[str, Any], keep_stdin: bool) -> Process:
        """Start the program with pipes or a terminal, and read what it writes."""
        if request.get("tty"):
            master, slave = os.openpty()
            os.set_inheritable(master, False)
            try:
                process = Process(spawn(request, slave, slave, slave, True))
            except BaseException:
                os.close(master)
                raise
            finally:
                os.close(slave)
            process.tty_fd = process.stdin_fd = master
            process.outputs[master] = "stdout"
        else:
            out_read, out_write = os.pipe2(os.O_CLOEXEC)
            err_read, err_write = os.pipe2(os.O_CLOEXEC)
            in_read, in_write = os.pipe2(os.O_CLOEXEC) if keep_stdin else (os.open(os.devnull, os.O_RDONLY), -1)
            try:
                process = Process(spawn(request, in_read, out_write, err_write, False))
            except BaseException:
                for fd in (out_read, err_read, in_write):
                    if fd >= 0:
                        os.close(fd)
                raise
            finally:
                for fd in (in_read, out_write, err_write):
                    os.close(fd)
            process.stdin_fd = in_write
            process.outputs = {out_read: "stdout", err_read: "stderr"}
        for fd in {*process.outputs, process.stdin_fd} - {-1}:
            os.set_blocking(fd, False)
        self._by_pid[process.pid] = process
        for fd in process.outputs:
            self._reading(process, fd, True)
        return process

    def _stop(self, connection: Connection, request: dict[str, Any]) -> bool:
        """Whether there is something to stop, whose end is the answer."""
        process = self._by_key.get((request["uid"], request["container"], request["attempt"]))
        if process is None:
            return False
        process.stoppers.append((connection, request.get("id")))
        if process.exit is None:
            grace = request["grace"]
            first = process.kill_at == float("inf")
            process.kill_at = min(process.kill_at, time.monotonic_ns() / 1e9 + grace)
            if grace <= 0:
                self._signal_group(process, signal.SIGKILL)
            elif first:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, request.get("signal", signal.SIGTERM))
        return True

    def _exec(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        process = self._launch(request, keep_stdin=request["stdin"])
        process.session = connection
        connection.process = process
        return {"pid": process.pid}

    def _attach(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        process = self._by_key.get((request["uid"], request["container"], request["attempt"]))
        if process is None:
            return {"error": "not running"}
        connection.process, connection.attaching = process, True
        process.attached.append(connection)
        return {"pid": process.pid}

    # -- processes

    def _reading(self, process: Process, fd: int, wanted: bool) -> None:
        watched = fd in self._selector.get_map()
        if fd == process.tty_fd and watched and process.stdin_rest:
            return
        if wanted and not watched:
            self._watch(fd, selectors.EVENT_READ, lambda: self._output(process, fd))
        elif not wanted and watched:
            self._selector.unregister(fd)

    def _output(self, process: Process, fd: int) -> None:
        if fd == process.tty_fd and process.stdin_rest:
            self._feed(process)
        try:
            data = os.read(fd, CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:  # a terminal whose other side is closed
            data = b""
        if not data:
            self._close_output(process, fd)
            return
        stream = process.outputs[fd]
        kind = STDOUT if stream == "stdout" else STDERR
        if process.log is not None:
            process.log.write(stream, data)
        for connection in (*process.attached, *((process.session,) if process.session else ())):
            connection.frame(kind, data)

    def _close_output(self, process: Process, fd: int) -> None:
        process.outputs.pop(fd, None)
        if fd in self._selector.get_map():
            self._selector.unregister(fd)
        os.close(fd)
        if fd == process.tty_fd:
            process.tty_fd = process.stdin_fd = -1

    def _feed(self, process: Process) -> None:
        """Write what is left for standard input; a program that ended takes nothing."""
        fd = process.stdin_fd
        if fd < 0:
            process.stdin_rest = b""
            return
        try:
            while process.stdin_rest:
                process.stdin_rest = process.stdin_rest[os.write(fd, process.stdin_rest[:CHUNK_BYTES]) :]
        except BlockingIOError:
            events = selectors.EVENT_WRITE | (selectors.EVENT_READ if fd == process.tty_fd else 0)
            callback = (lambda: self._output(process, fd)) if fd == process.tty_fd else (lambda: self._feed(process))
            if fd in self._selector.get_map():
                self._selector.modify(fd, events, callback)
            else:
                self._watch(fd, events, callback)
            return
        except OSError:
            process.stdin_rest = b""
            process.stdin_ends = True
        if fd in self._selector.get_map():
            if fd == process.tty_fd:
                self._selector.modify(fd, selectors.EVENT_READ, lambda: self._output(process, fd))
            else:
                self._selector.unregister(fd)
        if process.stdin_ends:
            process.stdin_ends = False
            if fd == process.tty_fd:
                with contextlib.suppress(OSError):
                    os.write(fd, b"\x04")
            else:
                os.close(fd)
                process.stdin_fd = -1

    def _signal_group(self, process: Process, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)

    def _woken(self, fd: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(fd, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            process = self._by_pid.pop(pid, None)
            if process is not None:
                self._exited(process, status)

    def _exited(self, process: Process, status: int) -> None:
        """The main process ended: a container's group ends with it, and what was written last is read."""
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        process.exit = (128 + number if number else os.WEXITSTATUS(status), number)
        process.finished_ns = time.time_ns()
        process.kill_at = float("inf")
        if process.key is not None:
            self._signal_group(process, signal.SIGKILL)
        for fd in tuple(process.outputs):
            self._reading(process, fd, True)
        process.drain_until = time.monotonic_ns() / 1e9 + DRAIN_SECONDS
        self._dying.append(process)
        for fd in tuple(process.outputs):
            while fd in process.outputs and self._has_more(fd):
                self._output(process, fd)

    @staticmethod
    def _has_more(fd: int) -> bool:
        waiting = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0]
        return bool(waiting)

    def _ended(self, process: Process) -> None:
        self._dying.remove(process)
        for fd in tuple(process.outputs):
            self._close_output(process, fd)
        if process.stdin_fd >= 0:
            if process.stdin_fd in self._selector.get_map():
                self._selector.unregister(process.stdin_fd)
            os.close(process.stdin_fd)
            process.stdin_fd = -1
        code, number = process.exit or (255, 0)
        result = json.dumps({"code": code, "signal": number}).encode()
        for connection in (*process.attached, *((process.session,) if process.session else ())):
            connection.frame(EXIT, result)
            connection.closing = True
        if process.key is None:
            return
        self._by_key.pop(process.key, None)
        if process.log is not None:
            process.log.close()
        self._keep(process)
        news = {"event": "exit", "key": list(process.key), "code": code, "signal": number}
        for connection in self._connections.values():
            if connection.control:
                connection.line({**news, "started": process.started_ns, "finished": process.finished_ns})
        for connection, identifier in process.stoppers:
            connection.line({"id": identifier})

    def _keep(self, process: Process) -> None:
        """Write the state file: complete or not at all."""
        state: dict[str, Any] = {"pid": process.pid, "started": process.started_ns, "boot": birth_of(process.pid)}
        if process.exit is not None:
            state = {"started": process.started_ns, "finished": process.finished_ns}
            state["code"], state["signal"] = process.exit
        temporary = process.state_path + ".new"
        with contextlib.suppress(OSError):
            with open(temporary, "w") as file:
                json.dump(state, file)
            os.rename(temporary, process.state_path)


def hung_up(fd: int) -> bool:
    """Whether the other side of a socket is gone, found out without reading."""
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))


def birth_of(pid: int) -> str:
    """When a process was started, in the kernel's ticks: with the pid it names one process for good."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def main(arguments: list[str]) -> None:
    """Detach from whoever started us, and serve; the parent returns when the socket is there."""
    path, idle_seconds = arguments[0], float(arguments[1])
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.umask(0o077)  # the socket takes commands; containers get a mask of their own
    null = os.open(os.devnull, os.O_RDWR)
    resource.setrlimit(resource.RLIMIT_NOFILE, (HARD_FILES, HARD_FILES))
    server = Supervisor(path, idle_seconds)
    os.dup2(null, 0)
    os.dup2(null, 1)  # whoever waits for our output now knows that the socket is there
    os.dup2(null, 2)
    os.close(null)
    server.run()


if __name__ == "__main__":
    main(sys.argv[1:])
