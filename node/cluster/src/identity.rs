//! Trust inside the cluster: who has the cluster key, or a certificate of the cluster's CA, is a member.
