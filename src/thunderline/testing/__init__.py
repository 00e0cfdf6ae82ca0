"""For tests of Thunderline and of what is built on it: a clock to turn by hand, a store suite, a harness of servers."""
