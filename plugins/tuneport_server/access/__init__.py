"""Who may use the server: access tokens, and the sessions of people who logged in to the page."""
