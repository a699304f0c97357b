"""Speed claims: each module's ``measure()`` runs salt_ray against a peer on the same input and returns rows."""
