package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// blobChunk keeps one put far below etcd's request limit.
	blobChunk = 512 << 10
	// maxBlob bounds the producers' state of one span.
	maxBlob = 64 << 20
)

// NewProducersRef makes a fresh reference for a producers' state.
func NewProducersRef(topic ID, partition, seq int32) string {
	return fmt.Sprintf("%s/%d/%d-%s", topic, partition, seq, RandomName(8))
}

func producersKey(ref string, chunk int) string {
	return fmt.Sprintf("%sproducers/%s/%04d", dataRoot, ref, chunk)
}

// PutProducers stores the producers' state of one sealed span in chunks and
// gives the reference to put into [Span.Producers]. An empty blob has reference "".
// Each call makes a fresh reference: one that was cut off is never read.
func (c *Catalog) PutProducers(ctx context.Context, topic ID, partition, seq int32, blob []byte) (ref string, err error) {
	if len(blob) == 0 {
		return "", nil
	}
	ref = NewProducersRef(topic, partition, seq)
	if err := c.putState(ctx, StoredState{ref, blob}); err != nil {
		return "", fmt.Errorf("producers of partition %d: %w", partition, err)
	}
	return ref, nil
}

func (c *Catalog) putState(ctx context.Context, s StoredState) error {
	if len(s.Blob) > maxBlob {
		return fmt.Errorf("producers %s: %d bytes: %w", s.Ref, len(s.Blob), ErrTooLarge)
	}
	for i := 0; i*blobChunk < len(s.Blob); i++ {
		chunk := s.Blob[i*blobChunk : min((i+1)*blobChunk, len(s.Blob))]
		if err := c.putRaw(ctx, producersKey(s.Ref, i), string(chunk)); err != nil {
			return err
		}
	}
	return nil
}

// putStates stores several at once: each put waits for a disk.
func (c *Catalog) putStates(ctx context.Context, states []StoredState) error {
	errs := make([]error, len(states))
	var wg sync.WaitGroup
	for i, s := range states {
		wg.Go(func() { errs[i] = c.putState(ctx, s) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (c *Catalog) putRaw(ctx context.Context, key, value string) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	_, err := c.cli.Put(ctx, key, value)
	return failure(ctx, "write", err)
}

// Producers reads what [Catalog.PutProducers] stored; nil for "".
func (c *Catalog) Producers(ctx context.Context, ref string) ([]byte, error) {
	if ref == "" {
		return nil, nil
	}
	// What is read is never changed, so any member's word will do, if it has heard
	// of it: appends may wait for this.
	out, err := c.producers(ctx, ref, clientv3.WithSerializable())
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt) {
		out, err = c.producers(ctx, ref)
	}
	return out, err
}

func (c *Catalog) producers(ctx context.Context, ref string, opts ...clientv3.OpOption) ([]byte, error) {
	prefix := dataRoot + "producers/" + ref + "/"
	var out bytes.Buffer
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	for {
		r, err := c.getRange(ctx, "producers "+ref, from, append([]clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(4)}, opts...))
		if err != nil {
			return nil, err
		}
		for _, kv := range r.Kvs {
			if string(kv.Key) != fmt.Sprintf("%s%04d", prefix, out.Len()/blobChunk) || out.Len()%blobChunk != 0 {
				return nil, fmt.Errorf("producers %s: a chunk is missing: %w", ref, ErrCorrupt)
			}
			out.Write(kv.Value)
		}
		if out.Len() > maxBlob {
			return nil, fmt.Errorf("producers %s: %w", ref, ErrTooLarge)
		}
		if !r.More || len(r.Kvs) == 0 {
			break
		}
		from = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
	}
	if out.Len() == 0 {
		return nil, fmt.Errorf("producers %s: %w", ref, ErrNotFound)
	}
	return out.Bytes(), nil
}

// DeleteProducers drops a stored state; dropping what is gone succeeds.
func (c *Catalog) DeleteProducers(ctx context.Context, ref string) error {
	if ref == "" {
		return nil
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	_, err := c.cli.Delete(ctx, dataRoot+"producers/"+ref+"/", clientv3.WithPrefix())
	return failure(ctx, "delete producers "+ref, err)
}

// ProducerRefs lists the stored states of a topic, for the sweep of those that
// no span refers to.
func (c *Catalog) ProducerRefs(ctx context.Context, topic ID) ([]string, error) {
	items, _, err := c.list(ctx, "producers of topic "+topic.String(), producersPrefix(topic), clientv3.WithKeysOnly())
	if err != nil {
		return nil, err
	}
	var refs []string
	for _, it := range items {
		ref := strings.TrimPrefix(it.key, dataRoot+"producers/")
		ref = ref[:strings.LastIndexByte(ref, '/')]
		if len(refs) == 0 || refs[len(refs)-1] != ref {
			refs = append(refs, ref)
		}
	}
	return refs, nil
}
