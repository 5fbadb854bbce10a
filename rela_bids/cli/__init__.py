"""The command line: arguments to settings, settings to a graph, a graph to an exit code."""
