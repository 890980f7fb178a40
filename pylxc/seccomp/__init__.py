"""System call filters: profiles, what they mean, and the BPF programs that the kernel runs.

``profile`` reads and checks profiles in the JSON format that docker and OCI runtimes share; ``default`` holds the one
that containers get; ``compiler`` makes a program of a profile; ``programs`` keeps those that were made.
"""
