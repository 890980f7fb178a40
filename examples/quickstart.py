"""Builds a small image on this machine's own operating system, runs it, talks to it, and leaves nothing behind.

No network, no download: the base image "host" is this machine's /usr. Run it with ``python3 examples/quickstart.py``.
"""

import tempfile
from pathlib import Path

import pylxc
import pylxc.cli

DOCKERFILE = """\
# A server of a few lines, compiled inside the container
FROM host
WORKDIR /srv
COPY greeter.c .
RUN cc -O1 -o greeter greeter.c
EXPOSE 7000
CMD ["/srv/greeter"]
"""

GREETER = r"""
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void)
{
    int server = socket(AF_INET, SOCK_STREAM, 0), client;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(7000)};
    if (bind(server, (struct sockaddr *)&address, sizeof address) || listen(server, 8))
        return 1;
    puts("listening on 7000");
    fflush(stdout);
    while ((client = accept(server, NULL, NULL)) >= 0) {
        char name[64] = "", host[64] = "", answer[160];
        read(client, name, sizeof name - 1);
        gethostname(host, sizeof host - 1);
        snprintf(answer, sizeof answer, "Hello %s, this is process %d of container %s", name, getpid(), host);
        write(client, answer, strlen(answer));
        close(client);
    }
}
"""


def main() -> None:
    """Run the example in a store of its own, which is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="pylxc-quickstart-") as directory:
        context = Path(directory, "context")
        context.mkdir()
        (context / "Dockerfile").write_text(DOCKERFILE)
        (context / "greeter.c").write_text(GREETER)
        engine = pylxc.Engine(Path(directory, "store"))

        image = pylxc.Image.build(context, tag="greeter:1", engine=engine)
        print(f"built {image.refs[0]}: {len(image.layers)} layers, {image.id[:19]}")

        with pylxc.start("greeter:1", name="greeter", engine=engine) as container:
            container.wait_ready(port=7000, timeout=30)
            with container.connect(7000) as connection:
                connection.sendall(b"world")
                print(connection.makefile().read())
            pylxc.cli.main(["--root", str(engine.root), "ps"])
        image.remove()


if __name__ == "__main__":
    main()
