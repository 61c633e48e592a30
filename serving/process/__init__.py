"""What the service needs of its process: a directory to keep state in, open files, and word of workers that end."""
