"""What must fail inside bubblewrap: RIGHT after such a program is right only if it succeeds."""

ESCAPES: dict[str, str] = {
    "reads the user's files": "open('/etc/passwd').read()",
    "lists the user's folders": "import os; os.listdir('/home')",
    "reads the repository": "open(__REPOSITORY__ + '/README.md').read()",
    "reads packages": "import torch",
    "writes outside": "open('/escaped', 'w').write('x')",
    "writes next to Python": "import os; open(os.__file__ + 'x', 'w').write('x')",
    "writes through ..": "open('../../escaped', 'w').write('x')",
    "connects to the network": "import socket; socket.create_connection(('1.1.1.1', 80), 1)",
    "sends a packet": "import socket; socket.socket(2, 2).sendto(b'x', ('8.8.8.8', 53))",
    "connects to this machine": (
        "import socket; socket.create_connection(('127.0.0.1', __PORT__), 1)"
    ),
    "sees other processes": (
        "import os; assert {*os.listdir('/proc')} - {'self', 'thread-self', '1'}"
    ),
    "reads memory": "open('/proc/1/mem', 'rb')",
    "reads the environment": "import os; os.environ['SECRET']",
    "runs a command": "import subprocess; subprocess.run(['ls'], check=True)",
    "runs a shell": "import os; assert os.system('true') == 0",
    "reads stdin": "input()",
    "fills the scratch folder": (
        "import os\nfor i in range(9): open(str(i), 'wb').write(b'x' * (4 << 20))"
    ),
    "writes a large file": "open('x', 'wb').write(b'x' * (64 << 20))",
    "finds files of another program": "assert open('left').read() == 'here'",
    "mounts": (
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.mount(b'none', b'/tmp', b'tmpfs', 0, b'') == 0"
    ),
    "unmounts its scratch folder": (
        "import ctypes, os\nassert ctypes.CDLL(None).umount2(b'/tmp', 2) == 0"
    ),
    "becomes root": "import os; os.setuid(0)",
    "traces its parent": (
        "import ctypes\nassert ctypes.CDLL(None).ptrace(16, 1, 0, 0) == 0"  # 1 is itself in there
    ),
    "raises its limits": (
        "import resource\nresource.setrlimit(resource.RLIMIT_NPROC, (resource.RLIM_INFINITY,) * 2)"
    ),
    "makes a device": "import os, stat; os.mknod('disk', 0o600 | stat.S_IFBLK, os.makedev(8, 0))",
    "changes the host's name": "import socket; socket.sethostname('escaped')",
    "signals a process of the judge": "import os; os.kill(__JUDGE__, 0)",
}
