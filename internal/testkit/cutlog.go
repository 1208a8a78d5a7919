package testkit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// CutLog makes the end of a partition's log go back, as a lost page cache does: it removes so many
// bytes from the end of a node's copy, and what the node remembers of where the log ended. The node
// must not run; at its next start it finds the last whole batch, and appends after that. In a
// cluster of one node the records that are cut are gone; of several, only an election that the
// node wins makes them so. To cut more than there is empties the log from its first segment's start.
func (n *Node) CutLog(topic string, partition int32, bytes int64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running() {
		return fmt.Errorf("cut the log: node %d runs", n.id)
	}
	if bytes <= 0 {
		return fmt.Errorf("cut the log: %d bytes: it must be 1 or more", bytes)
	}
	dir := filepath.Join(n.DataDir(), fmt.Sprintf("%s-%d", topic, partition))
	segments, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return fmt.Errorf("cut the log: %w", err)
	}
	if len(segments) == 0 {
		return fmt.Errorf("cut the log: node %d holds no log of %s-%d", n.id, topic, partition)
	}
	slices.Sort(segments) // names are offsets of fixed width: the last is the newest
	for i := len(segments) - 1; i >= 0 && bytes > 0; i-- {
		if bytes, err = cutSegment(segments[i], bytes, i > 0); err != nil {
			return fmt.Errorf("cut the log: %w", err)
		}
	}
	// What else tells where the log ended: producer snapshots, and the checkpoints of the whole node,
	// without which all its logs are recovered. Other partitions lose nothing by that.
	snapshots, err := filepath.Glob(filepath.Join(dir, "*.snapshot"))
	if err != nil {
		return fmt.Errorf("cut the log: %w", err)
	}
	for _, name := range append(snapshots,
		filepath.Join(n.DataDir(), ".kafka_cleanshutdown"),
		filepath.Join(n.DataDir(), "recovery-point-offset-checkpoint"),
		filepath.Join(n.DataDir(), "replication-offset-checkpoint"),
	) {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("cut the log: %w", err)
		}
	}
	return nil
}

// cutSegment takes bytes from a segment's end, and the segment if nothing is left and an older one
// is there. It returns what is still to be cut.
func cutSegment(segment string, bytes int64, older bool) (int64, error) {
	size, err := usedSize(segment)
	if err != nil {
		return 0, err
	}
	base := strings.TrimSuffix(segment, ".log")
	// The indexes are made anew from what is left.
	for _, suffix := range []string{".index", ".timeindex", ".txnindex"} {
		if err := os.Remove(base + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, err
		}
	}
	if size <= bytes && older {
		return bytes - size, os.Remove(segment)
	}
	return max(0, bytes-size), os.Truncate(segment, max(0, size-bytes))
}

// usedSize is where a segment's batches end: a preallocated file has zeros after them.
func usedSize(segment string) (int64, error) {
	f, err := os.Open(segment)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	var at int64
	for head := make([]byte, 12); at+12 <= info.Size(); {
		if _, err := f.ReadAt(head, at); err != nil {
			return 0, err
		}
		length := int64(int32(binary.BigEndian.Uint32(head[8:])))
		if length <= 0 || at+12+length > info.Size() {
			break
		}
		at += 12 + length
	}
	return at, nil
}
