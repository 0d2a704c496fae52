//! Sources that are started and stopped, and endpoints.

use super::*;

const ONE: &str = "/LiveApp/rest/v2/broadcasts/s1";

impl Fixture {
    async fn post(&self, uri: &str, body: Value) -> Value {
        self.call("POST", uri, body).await.ok()
    }

    fn looks(&self) -> u64 {
        self.node.looks.swap(0, Relaxed)
    }
}

#[tokio::test]
async fn a_source_is_started_and_stopped() {
    let f = Fixture::new().await;
    let start = format!("{ONE}/start");
    let stop = format!("{ONE}/stop");
    let no = f.post(&start, Value::Null).await;
    assert_eq!(no["message"], "Broadcast with streamId: s1 does not exist");
    let made =
        f.create(json!({"streamId": "s1", "type": "streamSource", "streamUrl": "whep://h/x", "sourceStarted": true})).await;
    assert!(made.get("sourceStarted").is_none(), "a client starts it by asking for it: {made}");
    f.looks();
    let yes = f.post(&start, Value::Null).await;
    assert_eq!((&yes["success"], f.looks()), (&json!(true), 1));
    assert_eq!(f.get(ONE).await.ok()["sourceStarted"], true);
    assert_eq!(f.post(&start, Value::Null).await["success"], false, "it is started already");

    let failed = BroadcastUpdate { status: Some(Status::Failed), ..Default::default() };
    f.store.update_broadcast("LiveApp", "s1", failed).await.unwrap();
    f.looks();
    assert_eq!(f.post(&stop, Value::Null).await["success"], true);
    assert_eq!(f.looks(), 1);
    let stopped = f.get(ONE).await.ok();
    assert_eq!((&stopped["sourceStarted"], &stopped["status"]), (&json!(false), &json!("finished")));
    assert_eq!(f.post(&stop, Value::Null).await["message"], "Broadcast with streamId: s1 is not live");
}

#[tokio::test]
async fn what_cannot_be_pulled_is_not_started() {
    let f = Fixture::new().await;
    f.create(json!({"streamId": "s1", "type": "streamSource", "streamUrl": "rtsp://h/x"})).await;
    let no = f.post(&format!("{ONE}/start"), Value::Null).await;
    assert_eq!((&no["success"], &no["message"]), (&json!(false), &json!("only whep can be pulled")));
    f.create(json!({"streamId": "s2"})).await;
    let no = f.post("/LiveApp/rest/v2/broadcasts/s2/start", Value::Null).await;
    assert!(no["message"].as_str().unwrap().contains("liveStream"), "{no}");
    let create = "/LiveApp/rest/v2/broadcasts/create?autoStart=true";
    let source = json!({"streamId": "s3", "type": "streamSource", "streamUrl": "whep://h/x"});
    let yes = f.post(create, source).await;
    assert_eq!((&yes["success"], &yes["dataId"]), (&json!(true), &json!("s3")));
    assert_eq!(f.get("/LiveApp/rest/v2/broadcasts/s3").await.ok()["sourceStarted"], true);
}

#[tokio::test]
async fn endpoints_come_and_go() {
    let f = Fixture::new().await;
    f.create(json!({"streamId": "s1"})).await;
    let endpoint = format!("{ONE}/rtmp-endpoint");
    for (body, why) in [
        (json!({"endpointUrl": "rtmp://h/x"}), "only whip"),
        (json!({}), "only whip"),
        (json!({"endpointUrl": "whip://h/x", "type": "generic"}), ""),
        (json!({"rtmpUrl": "whip://h/x"}), "already"),
        (json!({"rtmpUrl": "whip://h/y"}), ""),
    ] {
        let answer = f.post(&endpoint, body.clone()).await;
        let (said, message) = (&answer["success"], answer["message"].as_str().unwrap());
        assert!(*said == why.is_empty() && message.contains(why), "{body} {answer}");
    }
    assert_eq!(f.call("POST", &endpoint, json!([1])).await.status, 400);
    let one_rendition = format!("{endpoint}?resolutionHeight=360");
    assert_eq!(f.post(&one_rendition, json!({"endpointUrl": "whip://h/z"})).await["success"], false);
    let list = f.get(ONE).await.ok()["endPointList"].clone();
    let first = &list[0];
    assert_eq!(
        (&first["endpointUrl"], &first["type"], &first["status"]),
        (&json!("whip://h/x"), &json!("generic"), &json!("created"))
    );
    let id = first["endpointServiceId"].as_str().unwrap().to_owned();
    assert!(id.starts_with("custom") && id.len() == 12, "{id}");

    let live = f.publish("s1").await;
    assert_eq!(f.get(ONE).await.ok()["endPointList"][0]["status"], "broadcasting");
    drop(live);
    f.looks();
    let gone = f.call("DELETE", &format!("{endpoint}?endpointServiceId={id}"), Value::Null).await.ok();
    assert_eq!((&gone["success"], f.looks()), (&json!(true), 1));
    for missing in [format!("?endpointServiceId={id}"), String::new()] {
        let no = f.call("DELETE", &format!("{endpoint}{missing}"), Value::Null).await.ok();
        assert_eq!(no["success"], false, "{missing}");
    }
    assert_eq!(f.get(ONE).await.ok()["endPointList"].as_array().map(Vec::len), Some(1));
    for n in 1..40 {
        f.post(&endpoint, json!({"endpointUrl": format!("whip://h/{n}")})).await;
    }
    assert_eq!(f.get(ONE).await.ok()["endPointList"].as_array().map(Vec::len), Some(32));
}
