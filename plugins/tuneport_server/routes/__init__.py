"""The routes under `/v1`. A route reaches files, uploads and jobs only through `owned_of(request)`."""
