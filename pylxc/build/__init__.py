"""From a Dockerfile to layers.

The text: ``dockerfile`` with ``lexer``, ``heredoc``, ``words``, ``statement``, ``operands``, ``mountflag`` and
``instructions``, then ``expand`` with ``glob``. What is mostly a mistake in it: ``lint``, ``check``; what is read and
not carried out yet: ``refusals``. The files: ``context`` with ``ignore``, ``selection``, ``confined``, ``tarwriter``,
``modes``, ``archives``. What is to be done: ``plan`` with ``platforms``. Doing it: ``executor`` with ``cache``,
``accounts``, ``times``, and ``build``, which puts it together. ``imports`` makes images of what others made.

Invariant: text, files and plan run nothing and know no store; each can be used without the later ones.
"""
