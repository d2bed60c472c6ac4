"""ACE trainer."""
