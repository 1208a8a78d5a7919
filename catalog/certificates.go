package catalog

import (
	"context"
	"encoding/json"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// maxTail bounds AckReport.Tail and AckReport.InDoubt.
const maxTail = 64

// UnmarshalJSON reads a record; earlier releases wrote a pause that they did not know as 0.
func (p *PartitionCertificate) UnmarshalJSON(b []byte) error {
	type plain PartitionCertificate // without this method
	if err := json.Unmarshal(b, (*plain)(p)); err != nil {
		return err
	}
	if p.PauseMs != nil && *p.PauseMs <= 0 {
		p.PauseMs = nil
	}
	return nil
}

// PutCertificate stores a certificate; that of the same operation is replaced.
func (c *Catalog) PutCertificate(ctx context.Context, v Certificate, fence Fence) error {
	_, err := c.put(ctx, "certificate", certificatePrefix(v.Topic.ID)+segment(v.Op), -1, fence, &v)
	return err
}

// Certificate reads an operation's certificate of a topic.
func (c *Catalog) Certificate(ctx context.Context, topic ID, op string) (Certificate, error) {
	var v Certificate
	_, err := c.get(ctx, "certificate", certificatePrefix(topic)+segment(op), &v)
	return v, err
}

// Certificates reads a topic's certificates, oldest operation first.
func (c *Catalog) Certificates(ctx context.Context, topic ID) ([]Certificate, error) {
	return listOf[Certificate](ctx, c, "certificates", certificatePrefix(topic), nil)
}

// PruneCertificates drops a topic's oldest certificates past the last keep.
func (c *Catalog) PruneCertificates(ctx context.Context, topic ID, keep int) error {
	// Operation ids sort by time.
	items, _, err := c.list(ctx, "certificates", certificatePrefix(topic), clientv3.WithKeysOnly())
	if err != nil || len(items) <= keep {
		return err
	}
	for _, it := range items[:len(items)-keep] {
		if err := c.remove(ctx, "old certificate", it.key, -1, Fence{}); err != nil {
			return err
		}
	}
	return nil
}

// PutAckReports publishes what a gateway saw acknowledged on spans of a topic.
func (c *Catalog) PutAckReports(ctx context.Context, topic ID, reports []AckReport) error {
	writes := make([]write, 0, len(reports))
	for i := range reports {
		r := reports[i]
		if len(r.Tail) > maxTail {
			r.Tail = r.Tail[len(r.Tail)-maxTail:]
		}
		if len(r.InDoubt) > maxTail {
			r.InDoubt = r.InDoubt[len(r.InDoubt)-maxTail:]
		}
		value, err := encode(&r)
		if err != nil {
			return err
		}
		writes = append(writes, write{key: ackKey(topic, &r), value: value})
	}
	for _, group := range chunks(writes, 0) {
		ops := make([]clientv3.Op, 0, len(group))
		for _, w := range group {
			ops = append(ops, clientv3.OpPut(w.key, w.value))
		}
		if len(ops) == 0 {
			return nil
		}
		if _, err := c.txn(ctx, "report acknowledgements", nil, ops, nil); err != nil {
			return err
		}
	}
	return nil
}

// AckReports reads all reports on a topic, by partition, span and node.
func (c *Catalog) AckReports(ctx context.Context, topic ID) ([]AckReport, error) {
	return listOf[AckReport](ctx, c, "acknowledgement reports", ackPrefix(topic), nil)
}

// DeleteAckReports drops the reports on one partition's spans that are not below from, and below to.
func (c *Catalog) DeleteAckReports(ctx context.Context, topic ID, partition, from, to int32) error {
	if to <= max(from, 0) {
		return nil
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	prefix := fmt.Sprintf("%s%08d/", ackPrefix(topic), partition)
	_, err := c.cli.Delete(ctx, fmt.Sprintf("%s%08d", prefix, max(from, 0)), clientv3.WithRange(fmt.Sprintf("%s%08d", prefix, to)))
	return failure(ctx, "delete acknowledgement reports", err)
}

// DropAckReports drops all reports on a topic.
func (c *Catalog) DropAckReports(ctx context.Context, topic ID) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	_, err := c.cli.Delete(ctx, ackPrefix(topic), clientv3.WithPrefix())
	return failure(ctx, "drop acknowledgement reports", err)
}

// Certifications reads the extends that are committed and not yet certified.
func (c *Catalog) Certifications(ctx context.Context) ([]Extend, error) {
	return listOf(ctx, c, "certifications", dataRoot+"certify/", func(e *Extend, rev int64) { e.Revision = rev })
}

// CertificationsOf reads those of one topic.
func (c *Catalog) CertificationsOf(ctx context.Context, topic ID) ([]Extend, error) {
	return listOf(ctx, c, "certifications", certificationPrefix(topic), func(e *Extend, rev int64) { e.Revision = rev })
}

// Certification reads one of them.
func (c *Catalog) Certification(ctx context.Context, topic ID, op string) (Extend, error) {
	var e Extend
	rev, err := c.get(ctx, "certification", certificationKey(topic, op), &e)
	e.Revision = rev
	return e, err
}

// DeleteCertification says that an extend was certified.
func (c *Catalog) DeleteCertification(ctx context.Context, e Extend, fence Fence) error {
	return c.remove(ctx, "certification", certificationKey(e.Topic.ID, e.Op), -1, fence)
}
