"""The command line: one module for each verb, loaded only when it is called.

`main` parses, loads one verb and turns errors into messages and exit codes; `console` is the only
place that writes to the terminal; `environment` is the only place that reads environment variables.
What a verb was asked for goes to stdout, everything for people's eyes to stderr.
"""
