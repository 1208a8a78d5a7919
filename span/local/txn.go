package local

// inTransaction tells whether a transaction is open: a seal would refuse its marker.
func (p *partition) inTransaction() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open) > 0
}
