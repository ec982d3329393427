"""From scores to a report: audits, comparisons, their figures and pages, and the settings of published benchmarks."""
