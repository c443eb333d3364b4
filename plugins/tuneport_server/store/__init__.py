"""What the server must not forget, in an SQLite file. Only this folder contains SQL."""
