package remote

// Missing tells whether the store's owner was not to be found when it was last looked for.
func (s *Store) Missing() bool { return s.writes.missing() }
