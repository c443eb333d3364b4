"""An endpoint of the OpenAI wire: profiles, keys, the client, and what its answers mean."""
