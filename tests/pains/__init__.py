"""The forty pains that users of connection pools complain of: at least one test for each."""
