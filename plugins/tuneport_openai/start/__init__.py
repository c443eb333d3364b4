"""From a request to a job at the server: the rules for data, the request, the submission."""
