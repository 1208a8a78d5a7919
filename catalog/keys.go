package catalog

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// Layout below /braid/v1/. What gateways watch is apart from what they do not:
// f/ is fleet state, t/<tenant>/ a tenant's, d/ is data that is only read when asked for.
//
//	format                                    version and fleet id
//	f/cluster/<name>                          Cluster
//	f/gateway/<node>                          Gateway, leased
//	f/process/<id>                            Process, leased
//	f/shard/<number>                          Shard, leased
//	f/vote/<cluster>/<node>                   ClusterVote, leased
//	f/tenant/<name>                           Tenant
//	f/operator/<name>                         Operator
//	t/<tenant>/topic/<id>                     Topic
//	t/<tenant>/topic/<id>/<first partition>   Page
//	t/<tenant>/extend/<id>                    Extend
//	t/<tenant>/group/<name>                   GroupConfig
//	t/<tenant>/user/<name>                    User
//	t/<tenant>/acl/<hash of the rule>         ACL
//	t/<tenant>/rules                          nothing; written with every change of an ACL
//	t/<tenant>/quota/<hash of the entity>     ClientQuota
//	t/<tenant>/share/now                      Share
//	d/name/<tenant>/<name>                    topic id; makes names unique
//	d/bare/<user's name>                      tenant of the user that has claimed it
//	d/retired/<tenant>                        when a tenant of the name was removed
//	d/op/<id>                                 Op
//	d/certificate/<topic>/<op>                Certificate
//	d/certify/<topic>/<op>                    Extend that is committed and not yet certified
//	d/postponed/<topic>/<op>                  the same, whose cluster is away
//	d/ack/<topic>/<partition>/<span>/<node>-<run>       AckReport
//	d/ack/<topic>/<partition>/<span>/<node>-<run>/last  AckReport that its run will not write again
//	d/ack/<topic>/<partition>/<span>/folded             the sum of such
//	d/hold/<topic>/<op>/<node>                HoldAck
//	d/alarm/<topic>/<partition>               Alarm
//	d/use/<node>                              GatewayUse, leased
//	d/meter/<hour or day>/<writer>            Reading
//	d/torn/<transactional id>/<producer>/<epoch>   Torn, leased for a week
//	d/revoked/<lease>                         Revoked
//	d/producers/<topic>/<partition>/<seq>-<random>/<chunk>
//	d/term/<shard>, d/node/<address>, d/counter/<name>, d/token, d/producer-order, d/election/<name>
const root = "/braid/v1/"

const (
	keyFormat  = root + "format"
	fleetRoot  = root + "f/"
	tenantRoot = root + "t/"
	dataRoot   = root + "d/"
)

func clusterKey(name string) string { return fleetRoot + "cluster/" + segment(name) }

const revokedPrefix = dataRoot + "revoked/"

func revokedKey(lease int64) string         { return revokedPrefix + strconv.FormatInt(lease, 16) }
func gatewayKey(node int32) string          { return fleetRoot + "gateway/" + strconv.Itoa(int(node)) }
func processKey(id string) string           { return fleetRoot + "process/" + segment(id) }
func shardKey(n int32) string               { return fleetRoot + "shard/" + strconv.Itoa(int(n)) }
func votePrefix(cluster string) string      { return fleetRoot + "vote/" + segment(cluster) + "/" }
func tenantPrefix(tenant string) string     { return tenantRoot + segment(tenant) + "/" }
func topicKey(tenant string, id ID) string  { return tenantPrefix(tenant) + "topic/" + id.String() }
func extendKey(tenant string, id ID) string { return tenantPrefix(tenant) + "extend/" + id.String() }
func groupKey(tenant, group string) string  { return tenantPrefix(tenant) + "group/" + segment(group) }
func tenantKey(name string) string          { return fleetRoot + "tenant/" + segment(name) }
func retiredKey(tenant string) string       { return dataRoot + "retired/" + segment(tenant) }
func userPrefix(tenant string) string       { return tenantPrefix(tenant) + "user/" }
func userKey(tenant, name string) string    { return userPrefix(tenant) + segment(name) }
func bareKey(name string) string            { return dataRoot + "bare/" + segment(name) }
func aclPrefix(tenant string) string        { return tenantPrefix(tenant) + "acl/" }
func rulesKey(tenant string) string         { return tenantPrefix(tenant) + "rules" }
func quotaPrefix(tenant string) string      { return tenantPrefix(tenant) + "quota/" }
func nameKey(tenant, name string) string {
	return dataRoot + "name/" + segment(tenant) + "/" + segment(name)
}
func pageKey(tenant string, id ID, first int32) string {
	return fmt.Sprintf("%s/%08d", topicKey(tenant, id), first)
}
func opKey(id string) string { return dataRoot + "op/" + segment(id) }

const electionPrefix = dataRoot + "election/"

func electionKey(name string) string { return electionPrefix + segment(name) }

func certificatePrefix(topic ID) string {
	return dataRoot + "certificate/" + topic.String() + "/"
}
func certificationPrefix(topic ID) string { return dataRoot + "certify/" + topic.String() + "/" }
func certificationKey(topic ID, op string) string {
	return certificationPrefix(topic) + segment(op)
}

const postponedRoot = dataRoot + "postponed/"

func postponedPrefix(topic ID) string         { return postponedRoot + topic.String() + "/" }
func postponedKey(topic ID, op string) string { return postponedPrefix(topic) + segment(op) }

const (
	ackRoot   = dataRoot + "ack/"
	ackLast   = "/last"
	ackFolded = "folded"
)

func ackPrefix(topic ID) string { return ackRoot + topic.String() + "/" }
func ackKey(topic ID, r *AckReport) string {
	key := fmt.Sprintf("%s%08d/%08d/%d", ackPrefix(topic), r.Partition, r.Span, r.Node)
	if r.Run != "" {
		key += "-" + segment(r.Run)
	}
	if r.Last {
		key += ackLast
	}
	return key
}
func holdPrefix(topic ID, op string) string {
	return dataRoot + "hold/" + topic.String() + "/" + segment(op) + "/"
}
func alarmKey(topic ID, partition int32) string {
	return fmt.Sprintf("%s%08d", alarmPrefix(topic), partition)
}
func alarmPrefix(topic ID) string     { return dataRoot + "alarm/" + topic.String() + "/" }
func producersPrefix(topic ID) string { return dataRoot + "producers/" + topic.String() + "/" }

// segment makes any name one segment of a key: tenants and topics have no '/',
// but what came from outside is not trusted to. A name that needs escaping
// becomes "=" and its base64, which no plain name begins with.
func segment(name string) string {
	if name != "" && name[0] != '=' && !strings.ContainsAny(name, "/\x00") {
		return name
	}
	return "=" + base64.RawURLEncoding.EncodeToString([]byte(name))
}

func unsegment(s string) (string, bool) {
	enc, ok := strings.CutPrefix(s, "=")
	if !ok {
		return s, s != ""
	}
	b, err := base64.RawURLEncoding.DecodeString(enc)
	return string(b), err == nil
}

// kind of a watched key.
type kind int

const (
	kindOther kind = iota
	kindCluster
	kindGateway
	kindProcess
	kindShard
	kindVote
	kindTopic
	kindPage
	kindExtend
	kindGroup
	kindTenant
	kindOperator
	kindUser
	kindACL
	kindQuota
	kindShare
)

// address is a watched key taken apart.
type address struct {
	kind   kind
	tenant string
	name   string // cluster, process, group, tenant, user; hash of an ACL or of a quota's entity
	id     ID     // topic, page, extend
	number int32  // gateway, shard, first partition, voter
}

// ofNames are a tenant's records that have a name (or a hash) in their keys.
var ofNames = map[string]kind{"group": kindGroup, "user": kindUser, "acl": kindACL, "quota": kindQuota, "share": kindShare}

// parseKey takes a key apart; keys that this release does not know are kindOther.
func parseKey(key string) address {
	if rest, ok := strings.CutPrefix(key, fleetRoot); ok {
		what, rest, _ := strings.Cut(rest, "/")
		switch what {
		case "cluster":
			if name, ok := unsegment(rest); ok {
				return address{kind: kindCluster, name: name}
			}
		case "process":
			if name, ok := unsegment(rest); ok {
				return address{kind: kindProcess, name: name}
			}
		case "tenant":
			if name, ok := unsegment(rest); ok {
				return address{kind: kindTenant, name: name}
			}
		case "operator":
			if name, ok := unsegment(rest); ok {
				return address{kind: kindOperator, name: name}
			}
		case "gateway":
			return numbered(kindGateway, "", rest)
		case "shard":
			return numbered(kindShard, "", rest)
		case "vote":
			name, node, _ := strings.Cut(rest, "/")
			if name, ok := unsegment(name); ok {
				return numbered(kindVote, name, node)
			}
		}
		return address{}
	}
	rest, ok := strings.CutPrefix(key, tenantRoot)
	if !ok {
		return address{}
	}
	seg, rest, _ := strings.Cut(rest, "/")
	tenant, ok := unsegment(seg)
	if !ok {
		return address{}
	}
	what, rest, _ := strings.Cut(rest, "/")
	if k := ofNames[what]; k != kindOther {
		if name, ok := unsegment(rest); ok {
			return address{kind: k, tenant: tenant, name: name}
		}
		return address{}
	}
	hex, page, paged := strings.Cut(rest, "/")
	a := address{tenant: tenant}
	if a.id.UnmarshalText([]byte(hex)) != nil {
		return address{}
	}
	switch {
	case what == "extend" && !paged:
		a.kind = kindExtend
	case what == "topic" && !paged:
		a.kind = kindTopic
	case what == "topic":
		n, err := strconv.ParseInt(page, 10, 32)
		if err != nil || n < 0 || n%PageSize != 0 {
			return address{}
		}
		a.kind, a.number = kindPage, int32(n)
	}
	return a
}

func numbered(k kind, name, s string) address {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 0 {
		return address{}
	}
	return address{kind: k, name: name, number: int32(n)}
}
