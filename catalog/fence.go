package catalog

import (
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Fence ties a write to a leadership: it lands only while that leadership
// lasts. The zero Fence guards nothing.
type Fence struct {
	Key      string
	Revision int64 // create revision of Key
}

func (f Fence) guard(cmps []clientv3.Cmp) []clientv3.Cmp {
	if f.Key == "" {
		return cmps
	}
	return append(cmps, clientv3.Compare(clientv3.CreateRevision(f.Key), "=", f.Revision))
}

// probe reads the fence in the else branch, always as its first operation.
func (f Fence) probe(ops []clientv3.Op) []clientv3.Op {
	if f.Key == "" {
		return ops
	}
	return append(ops, clientv3.OpGet(f.Key, clientv3.WithKeysOnly()))
}

// check tells from a refused transaction, whose else branch began with probe,
// whether the fence was what refused it.
func (f Fence) check(r *clientv3.TxnResponse) error {
	if f.Key == "" {
		return nil
	}
	kvs := r.Responses[0].GetResponseRange().Kvs
	if len(kvs) == 0 || kvs[0].CreateRevision != f.Revision {
		return ErrFenced
	}
	return nil
}
