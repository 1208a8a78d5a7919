package coordinator

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func sampleGroup() *groupRecord {
	return &groupRecord{
		key: testGroup, protocolType: str("consumer"), generation: 7, protocol: str("range"), leader: str("m1"), since: 1234,
		members: []memberRecord{{
			id: "m1", instance: str("i"), clientID: "c", clientHost: "/h", rebalanceTimeout: 60_000, sessionTimeout: 10_000,
			protocols: []protocol{{"range", []byte{1, 2}}, {"sticky", []byte{}}}, assignment: []byte("a"),
		}},
	}
}

// TestRecordsKeepTheirFormat holds the bytes of docs/formats/coordinator.md.
func TestRecordsKeepTheirFormat(t *testing.T) {
	offsets := &offsetsRecord{key: testGroup, committed: 1000, expires: -1, topics: []topicOffsets{
		{name: "t", id: idOf("0123456789abcdef"), partitions: []partitionOffset{{0, 300, -1, ""}, {5, 1, 2, "x"}}},
	}}
	gone := &offsetsGone{key: testGroup, topics: []topicPartitions{{"t", []int32{0, 5}}}}
	for _, tc := range []struct {
		name string
		r    record
		want string
	}{
		{"barrier", barrier{term: 3, node: 2}.encode(), "0101 06 04"},
		{"snapshot start", snapshotMark{id: 300}.encode(), "0102 ac02"},
		{"snapshot end", snapshotMark{end: true, id: 300}.encode(), "0103 ac02"},
		{"group", sampleGroup().encode(), "0104 0764656661756c74 0167 01 08636f6e73756d6572 0e 01 0572616e6765 01 026d31 a413 01" +
			"026d31 01 0169 0163 022f68 c0a907 a09c01 02 0572616e6765 020102 06737469636b79 00 0161"},
		{"group gone", groupGone{testGroup}.encode(), "0105 0764656661756c74 0167"},
		{"offsets", offsets.encode(), "0106 0764656661756c74 0167 d00f 01 01 0174 30313233343536373839616263646566 02 00 d804 01 00 0a 02 04 0178"},
		{"offsets gone", gone.encode(), "0107 0764656661756c74 0167 01 0174 02 00 0a"},
	} {
		if got, want := hex.EncodeToString(tc.r), strings.ReplaceAll(tc.want, " ", ""); got != want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, got, want)
		}
	}
}

func TestRecordsOfNewerReleases(t *testing.T) {
	m := newDriver(t, Config{}).m
	for _, tc := range []struct {
		r    record
		want error
	}{
		{record{2, 4}, errRecordVersion},
		{record{0, 4}, errRecord},
		{record{1}, errRecord},
		{nil, errRecord},
		{record{1, 99}, errRecord},
		{append(groupGone{testGroup}.encode(), 0), errRecord},
	} {
		if _, err := m.apply(tc.r); !errors.Is(err, tc.want) {
			t.Errorf("%x: %v, want %v", tc.r, err, tc.want)
		}
	}
}

func TestEveryCutOfARecordIsRefused(t *testing.T) {
	full := sampleGroup().encode()
	for n := range len(full) {
		if _, err := newDriver(t, Config{}).m.apply(full[:n]); err == nil {
			t.Errorf("%d of %d bytes are taken", n, len(full))
		}
	}
}

func TestGroupRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(0, 8, 20)
		optional := func(name string) *string {
			if rapid.Bool().Draw(t, name) {
				return str(text.Draw(t, name))
			}
			return nil
		}
		data := rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 20), func(b []byte) []byte { return append([]byte{}, b...) })
		r := &groupRecord{
			key: groupKey{text.Draw(t, "tenant"), text.Draw(t, "group")}, protocolType: optional("type"), generation: rapid.Int32().Draw(t, "generation"),
			protocol: optional("protocol"), leader: optional("leader"), since: rapid.Int64().Draw(t, "since"), members: []memberRecord{},
		}
		for i := range rapid.IntRange(0, 4).Draw(t, "members") {
			r.protocolType, r.protocol, r.leader = str("t"), str("p"), str("l")
			m := memberRecord{
				id: text.Draw(t, "id") + string(rune('a'+i)), instance: optional("instance"), clientID: text.Draw(t, "client"),
				clientHost: text.Draw(t, "host"), rebalanceTimeout: rapid.Int32().Draw(t, "r"), sessionTimeout: rapid.Int32().Draw(t, "s"),
				protocols: []protocol{}, assignment: data.Draw(t, "assignment"),
			}
			for range rapid.IntRange(0, 3).Draw(t, "protocols") {
				m.protocols = append(m.protocols, protocol{text.Draw(t, "name"), data.Draw(t, "metadata")})
			}
			r.members = append(r.members, m)
		}
		_, d, err := open(r.encode())
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeGroup(d)
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Fatalf("%v\n got %+v\nwant %+v", err, got, r)
		}
	})
}

// FuzzApply: no record does more than give an error, and what is taken is
// written again as the same state.
func FuzzApply(f *testing.F) {
	f.Add([]byte(sampleGroup().encode()))
	f.Add([]byte(barrier{1, 2}.encode()))
	f.Add([]byte(snapshotMark{true, 7}.encode()))
	f.Add([]byte(groupGone{testGroup}.encode()))
	f.Add([]byte((&offsetsRecord{key: testGroup, topics: []topicOffsets{{"t", idOf("t"), []partitionOffset{{1, 2, 3, "m"}}}}}).encode()))
	f.Add([]byte((&offsetsGone{key: testGroup, topics: []topicPartitions{{"t", []int32{1}}}}).encode()))
	for _, r := range sampleConsumerRecords() {
		f.Add([]byte(r))
	}
	f.Add([]byte(severalRecord(sampleConsumerRecords()).encode()))
	f.Add([]byte(sampleTransaction().encode()))
	f.Add([]byte{1, 6, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		d := newDriver(t, Config{})
		if _, err := d.m.apply(b); err != nil {
			return
		}
		d.event(func(m *machine) { m.begin() })
		for _, key := range d.m.snapshotKeys() {
			d.event(func(m *machine) { m.snapshotGroup(key) })
		}
		for _, key := range d.m.snapshotTxns() {
			d.event(func(m *machine) { m.snapshotTxn(key) })
		}
		n := d.successor()
		for key, g := range d.m.groups {
			o := n.m.groups[key]
			if o == nil {
				t.Fatalf("group %v is not in the snapshot", key)
			}
			if !bytes.Equal(g.written, o.written) {
				t.Fatal("group differs after a snapshot")
			}
			for name, store := range g.offsets {
				if o.offsets[name] == nil || !reflect.DeepEqual(store.partitions, o.offsets[name].partitions) {
					t.Fatalf("offsets in %q differ after a snapshot", name)
				}
			}
		}
		d.pass(60_000)
	})
}

func FuzzSubscription(f *testing.F) {
	f.Add(subscribe("a", "bc"))
	f.Add([]byte{0, 1, 0x7f, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		into := map[string]bool{}
		if parseSubscription(b, into) && len(into)*2 > len(b) {
			t.Fatal("more topics than bytes")
		}
	})
}
