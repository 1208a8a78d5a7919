package coordinator

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// sampleConsumerRecords has one record of each kind of consumer groups.
func sampleConsumerRecords() []record {
	mb := &consumerMember{
		id: "m", instance: str("i"), rack: str("r"), clientID: "c", clientHost: "/h", rebalanceTimeout: 300, topics: []string{"t"},
		regex: str("x.*"), assignor: str("range"), target: assignment{idOf("t"): {0, 5}},
		epoch: 3, previous: 2, state: memberUnrevoked,
		assigned: held{idOf("t"): {{0, 2}}}, revoking: held{idOf("u"): {{1, 1}}},
	}
	old := &consumerMember{id: "o", classic: &classicSide{session: 10, protocols: []protocol{{"range", []byte{7}}}}}
	return []record{
		consumerGroupRecord{testGroup, &consumerGroup{epoch: 3, assigned: 2, assignedAt: 1000, hash: 300}}.encode(),
		consumerMemberRecord{testGroup, mb}.encode(),
		consumerMemberRecord{testGroup, old}.encode(),
		consumerTargetRecord{testGroup, mb}.encode(),
		consumerCurrentRecord{testGroup, mb}.encode(),
		consumerRegexRecord{testGroup, "x.*", &resolvedRegex{at: 1, topics: []string{"xa"}}}.encode(),
		consumerRegexRecord{testGroup, "x.*", nil}.encode(),
		consumerGoneRecord{testGroup, "m"}.encode(),
	}
}

// TestConsumerRecordsKeepTheirFormat holds the bytes of docs/formats/coordinator.md.
func TestConsumerRecordsKeepTheirFormat(t *testing.T) {
	const key = "0764656661756c74 0167"
	topic := func(c string) string { return c + strings.Repeat("00", 15) }
	want := []string{
		"0110" + key + "06 04 d00f ac02",
		"0111" + key + "016d 010169 010172 0163 022f68 d804 01 0174 0103782e2a 010572616e6765 00",
		"0111" + key + "016f 00 00 00 00 00 00 00 00 01 14 01 0572616e6765 0107",
		"0112" + key + "016d 01" + topic("74") + "02 00 0a",
		"0113" + key + "016d 06 04 02 01" + topic("74") + "01 00 04 01" + topic("75") + "01 02 02",
		"0115" + key + "03782e2a 01 02 01 027861",
		"0115" + key + "03782e2a 00",
		"0114" + key + "016d",
	}
	for i, r := range sampleConsumerRecords() {
		if got, want := hex.EncodeToString(r), strings.ReplaceAll(want[i], " ", ""); got != want {
			t.Errorf("record %d:\n got %s\nwant %s", i, got, want)
		}
	}
	several := severalRecord{consumerGoneRecord{testGroup, "m"}.encode(), consumerGoneRecord{testGroup, "m"}.encode()}.encode()
	one := "0114" + key + "016d"
	one = strings.ReplaceAll(one, " ", "")
	if got, want := hex.EncodeToString(several), "011f02"+hex.EncodeToString([]byte{byte(len(one) / 2)})+one+hex.EncodeToString([]byte{byte(len(one) / 2)})+one; got != want {
		t.Errorf("several:\n got %s\nwant %s", got, want)
	}
}

// What one change wrote is taken as a whole or not at all.
func TestSeveralRecordsAreOne(t *testing.T) {
	good := sampleConsumerRecords()
	for name, inner := range map[string]record{
		"a barrier":     barrier{1, 2}.encode(),
		"itself":        severalRecord(good).encode(),
		"a cut record":  good[0][:1],
		"another kind":  {1, 99},
		"a newer one":   {2, 16},
		"no version":    {0, 16},
		"an offset one": (&offsetsGone{key: testGroup, topics: []topicPartitions{{"t", []int32{1}}}}).encode(),
	} {
		m := newDriver(t, Config{}).m
		_, err := m.apply(severalRecord{good[0], inner}.encode())
		if !errors.Is(err, errRecord) && !errors.Is(err, errRecordVersion) {
			t.Errorf("%s within several: %v", name, err)
		}
		if len(m.groups) > 0 {
			t.Errorf("%s within several: the first of them was applied", name)
		}
	}
}

// FuzzConsumerProtocol feeds what clients of the classic protocol embed to its parsers.
func FuzzConsumerProtocol(f *testing.F) {
	f.Add(subscribe("t"))
	f.Add(appendConsumerAssignment(nil, []byte{0, 3}, map[string][]int32{"t": {0, 1}}))
	f.Add([]byte{0, 3, 0, 0, 0, 1, 0, 1, 't', 255, 255, 255, 255, 0, 0, 0, 1, 0, 1, 't', 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 9, 0, 1, 'r'})
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, ok := parseConsumerSubscription(b); ok && len(s.topics) > len(b) {
			t.Error("more topics than bytes")
		}
		owned, userData, ok := parseConsumerAssignment(b)
		if !ok || len(userData) > 0 {
			return
		}
		again, _, ok := parseConsumerAssignment(appendConsumerAssignment(nil, b, owned))
		if !ok || len(again) != len(owned) {
			t.Errorf("%v is %v once encoded", owned, again)
		}
	})
}
