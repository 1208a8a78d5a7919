package local

import (
	"encoding/binary"
	"fmt"
	"sort"
	"sync/atomic"

	"github.com/braidstream/braid/span"
)

// topic is a physical topic of this store.
type topic struct {
	number uint32 // within the directory, never used again
	name   string
	id     [16]byte

	raw   atomic.Pointer[map[string]string] // never modified in place
	cfg   atomic.Pointer[topicConfig]
	parts atomic.Pointer[[]*partition] // likewise

	// Set by the sequencer.
	sealed atomic.Bool
	gone   atomic.Bool
}

func newTopic(number uint32, name string, id [16]byte, partitions int32, raw map[string]string, cfg *topicConfig) *topic {
	t := &topic{number: number, name: name, id: id}
	t.raw.Store(&raw)
	t.cfg.Store(cfg)
	t.parts.Store(&[]*partition{})
	t.grow(partitions)
	return t
}

func (t *topic) public() span.Topic { return span.Topic{Name: t.name, ID: t.id} }

func (t *topic) partitions() []*partition { return *t.parts.Load() }

func (t *topic) grow(total int32) {
	old := t.partitions()
	if int(total) <= len(old) {
		return
	}
	parts := make([]*partition, total)
	copy(parts, old)
	// One allocation for all: a topic may have thousands.
	fresh := make([]partition, int(total)-len(old))
	for i := range fresh {
		fresh[i].t, fresh[i].n = t, uint32(len(old)+i)
		parts[len(old)+i] = &fresh[i]
	}
	t.parts.Store(&parts)
}

// Bounds of what a topic record may hold.
const (
	maxPartitions  = 1 << 20
	maxNameLength  = 1 << 10
	maxConfigs     = 1 << 10
	maxConfigValue = 64 << 10
)

// appendTopicRecord encodes the payload of kindCreate and kindConfig frames.
func appendTopicRecord(b []byte, t *topic, partitions int32, raw map[string]string) []byte {
	b = append(b, t.id[:]...)
	b = binary.AppendUvarint(b, uint64(partitions))
	b = appendString(b, t.name)
	return appendConfig(b, raw)
}

func appendConfig(b []byte, raw map[string]string) []byte {
	b = binary.AppendUvarint(b, uint64(len(raw)))
	keys := make([]string, 0, len(raw))
	for k := range raw {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		b = appendString(b, k)
		b = appendString(b, raw[k])
	}
	return b
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// topicRecord is a decoded payload of kindCreate and kindConfig.
type topicRecord struct {
	id         [16]byte
	partitions int32
	name       string
	config     map[string]string
}

func parseTopicRecord(b []byte) (topicRecord, error) {
	d := decoder{b: b}
	var r topicRecord
	d.bytes(r.id[:])
	r.partitions = int32(d.count(maxPartitions))
	r.name = d.string(maxNameLength)
	r.config = d.config()
	if err := d.end(); err != nil {
		return topicRecord{}, fmt.Errorf("topic record: %w", err)
	}
	return r, nil
}
