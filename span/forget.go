package span

// Forgetter is a [Store] that remembers what it saw committed and refuses a log
// that went back below it ([TruncatedError]).
type Forgetter interface {
	// Forget drops that memory of one partition, after the chain was extended past
	// what its log has lost: what is left of it may be read again.
	Forget(t Topic, partition int32)
}
