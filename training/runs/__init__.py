"""Run directories, evaluations, exports, and their tables and plots."""
