"""What the operating system gives: processes, signals, files and terminal text. No torch."""
