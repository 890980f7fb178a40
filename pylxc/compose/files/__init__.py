"""Compose and Fig files, read into one model of an application.

``loading`` puts the steps in order: ``projects`` finds the files and their variables, ``schema`` says, in the words of
``kinds`` and ``shorthand``, what may stand where and turns every short form into the long one, ``layers`` brings in
what files extend and include and lays one over another by the rules of ``merging``, ``completing`` adds what is
implied, ``consistency`` checks what no single value shows. ``fig`` reads the files of 2013.
Invariant: nothing is started, and the store is not looked at; what is refused is refused with file, line and key; a key
that is not known is never passed over.
"""
