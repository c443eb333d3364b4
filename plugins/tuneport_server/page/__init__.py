"""The pages for browsers. They reach files and jobs only through `owned_of(request)`, as the routes do."""
