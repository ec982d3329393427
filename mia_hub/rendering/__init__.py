"""Text, Markdown, HTML and figures: what reports, answers and pages are made of."""
