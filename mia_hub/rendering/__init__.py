"""Words, pages and figures: what any report, answer or page is put together from."""
