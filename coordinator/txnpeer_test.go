package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// samplePeerRequests has one of each kind.
func samplePeerRequests() []*PeerRequest {
	return []*PeerRequest{
		{Enlist: &Enlist{Tenant: "default", ID: "pay", Producer: catalog.ProducerIDBase, Epoch: 3, Implicit: true,
			At: chain.Enlist{Topic: idOf("topic"), Partition: 1, Producer: catalog.ProducerIDBase, Epoch: 3, First: 7, Cluster: "east",
				Physical: span.Topic{Name: "physical", ID: idOf("physical")}, Index: 1, Foreign: true, Floor: 12}}},
		{Add: &PeerAdd{Tenant: "default", ID: "pay", Producer: 1, Epoch: 2, Group: "readers", Verify: true}},
		{Settle: &PeerSettle{Tenant: "default", Group: "readers", Producer: 1, Commit: true}},
		{Offsets: &PeerOffsets{Topic: idOf("topic"), Partition: 1}},
	}
}

func TestPeerRequestsAreChecked(t *testing.T) {
	for _, r := range samplePeerRequests() {
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodePeer(b); err != nil {
			t.Errorf("%s: %v", b, err)
		}
	}
	for _, bad := range []string{``, `null`, `{}`, `[]`, `{"Add":{}}`, `{"Unknown":1}`, `{"Settle":{"Tenant":"a","Group":"b"}} {}`,
		`{"Settle":{"Tenant":"a","Group":"b"},"Offsets":{"Topic":"` + idText("t") + `","Partition":0}}`,
		`{"Offsets":{"Topic":"` + idText("t") + `","Partition":-1}}`, `{"Settle":{"Tenant":"a","Group":"` + strings.Repeat("x", maxStringBytes+1) + `"}}`} {
		if _, err := decodePeer([]byte(bad)); !errors.Is(err, ErrPeerRequest) {
			t.Errorf("%.80s: %v", bad, err)
		}
	}
}

// A gateway of a later release may tell more than this one knows, beside a question and within it;
// a question that this one does not know is refused.
func TestPeersOfLaterReleases(t *testing.T) {
	f := newFleet(t, 1, Config{})
	g := f.joinTxn(1, newClusters(), nil)
	eventually(t, "served", func() bool { return f.ready(1) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const token = "secret"
	server := g.c.ServePeers(l, token)
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, tc := range []struct {
		body   string
		status int
	}{
		{`{"Settle":{"Tenant":"default","Group":"readers","Producer":1,"Commit":true}}`, http.StatusOK},
		{`{"Settle":{"Tenant":"default","Group":"readers","Producer":1,"Commit":true,"Hint":{"a":[1]}}}`, http.StatusOK},
		{`{"Release":"9.9","Settle":{"Tenant":"default","Group":"readers","Producer":1,"Commit":true}}`, http.StatusOK},
		{`{"Enlist":{"Tenant":"default","ID":"pay","At":{"Partition":0,"Zone":"z1"}}}`, http.StatusOK},
		{`{"Later":{"Tenant":"default"}}`, http.StatusBadRequest},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+l.Addr().String()+peerPath, strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		req.Header.Set(peerHeader, peerProof(token, "ask", []byte(tc.body)))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		if resp.StatusCode != tc.status {
			t.Errorf("%s: %s", tc.body, resp.Status)
		}
	}
	// So may an answer.
	answer := []byte(`{"Code":0,"Later":true,"Enlisted":{"ID":"x","Later":1}}`)
	later := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(peerHeader, peerProof(token, "answer", answer))
		_, _ = w.Write(answer)
	}))
	defer later.Close()
	peers := HTTPPeers(token, func(int32) string { return later.Listener.Addr().String() })
	defer peers.Close()
	resp, err := peers.Ask(t.Context(), 2, samplePeerRequests()[0])
	if err != nil || resp.Code != wire.None || resp.Enlisted.ID != "x" {
		t.Errorf("%+v, %v", resp, err)
	}
}

func idText(name string) string {
	b, _ := json.Marshal(catalog.ID(idOf(name))) // an id is always text
	return strings.Trim(string(b), `"`)
}

// FuzzPeerRequest: whatever a peer sends is answered, and asked again in its own words
// it is the same question.
func FuzzPeerRequest(f *testing.F) {
	for _, r := range samplePeerRequests() {
		b, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"Enlist":{"At":{"Partition":2147483648}}}`))
	fleet := newFleet(f, 1, Config{})
	g := fleet.joinTxn(1, newClusters(), nil)
	eventually(f, "served", func() bool { return fleet.ready(1) })
	f.Fuzz(func(t *testing.T, b []byte) {
		req, err := decodePeer(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodePeer(again); err != nil {
			t.Fatalf("%q becomes %q: %v", b, again, err)
		}
		if resp := g.c.ServePeer(t.Context(), req); resp.Code == wire.None && req.Enlist != nil {
			t.Fatalf("%q: a producer that nobody knows is enlisted", b)
		}
	})
}

// fleetPeers reach the other gateways of a fleet.
type fleetPeers map[int32]*Coordinator

func (p fleetPeers) Ask(ctx context.Context, node int32, req *PeerRequest) (*PeerResponse, error) {
	if p[node] == nil {
		return nil, fmt.Errorf("gateway %d is away", node)
	}
	b, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	if req, err = decodePeer(b); err != nil {
		return nil, err
	}
	return p[node].ServePeer(ctx, req), nil
}

// stoppedPeers do not answer, as gateways that stand still.
type stoppedPeers struct {
	asked chan struct{}
	ended chan error // of the context
}

func (p *stoppedPeers) Ask(ctx context.Context, _ int32, _ *PeerRequest) (*PeerResponse, error) {
	p.asked <- struct{}{}
	<-ctx.Done()
	p.ended <- ctx.Err()
	return nil, ctx.Err()
}

// Whoever waits for a gateway that stands still goes on when another has its shard, and does not wait for its own patience.
func TestAGatewayThatStandsStillIsNotWaitedFor(t *testing.T) {
	f := newFleet(t, 1, Config{})
	a := f.join(1)
	eventually(t, "served", func() bool { return f.ready(1) })
	b := f.join(2)
	eventually(t, "served by the one that it belongs to", func() bool { return f.ready(1, 2) })
	owner, other := a, b
	if node, _ := a.c.Owner("default", KeyTransaction, "pay"); node == 2 {
		owner, other = b, a
	}
	peers := &stoppedPeers{make(chan struct{}, 1), make(chan error, 1)}
	other.c.peers = peers
	answer := make(chan wire.Code, 1)
	go func() {
		_, code := other.c.peerAdd(t.Context(), &addRequest{key: groupKey{"default", "pay"}, groups: []string{"g"}})
		answer <- code
	}()
	<-peers.asked
	owner.freeze()
	owner.expire()
	if err := <-peers.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the question ended by %v", err)
	}
	if code := <-answer; code != wire.CoordinatorNotAvailable {
		t.Error(code)
	}
}

// Offsets of groups in the shards of other gateways are known too, and one that does
// not answer is an error, not a shorter list.
func TestCommittedOffsetsOfAllGateways(t *testing.T) {
	f := newFleet(t, 8, Config{})
	a, b := f.join(1), f.join(2)
	peers := fleetPeers{1: a.c, 2: b.c}
	a.c.peers, b.c.peers = peers, peers
	eventually(t, "both serve", func() bool { return f.ready(1, 2) })
	var want []string
	for i := range 20 {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Version, req.Generation = 8, -1
		req.Group = fmt.Sprint("group-", i)
		rt := kmsg.NewOffsetCommitRequestTopic()
		rt.Topic = "topic"
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset = 1, int64(i)
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		want = append(want, req.Group)
		node, _ := a.c.Owner("default", KeyGroup, req.Group)
		resp := peers[node].OffsetCommit(t.Context(), Caller{Tenant: "default"}, req)
		if code := resp.Topics[0].Partitions[0].ErrorCode; code != 0 {
			t.Fatal(wire.Code(code))
		}
	}
	for _, g := range []*fleetMember{a, b} {
		all, err := g.c.CommittedOffsets(t.Context(), idOf("topic"), 1)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, o := range all {
			got = append(got, o.Group)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("gateway %d: %q", g.node, got)
		}
	}
	delete(peers, 2)
	if all, err := a.c.CommittedOffsets(t.Context(), idOf("topic"), 1); !errors.Is(err, errOffsets) {
		t.Errorf("%v, %v", all, err)
	}
}
