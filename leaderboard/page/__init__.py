"""The page: the tabs of the board and of submissions, and the API."""
