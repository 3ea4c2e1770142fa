"""Networks on tables, users and items, points and graphs, as tutorials write them."""

import keras
import numpy as np
from keras import layers, ops

NUMERIC = ("age", "hours")
CATEGORICAL = {"job": 6, "city": 5, "sex": 2}


def feature_inputs():
    inputs = {name: keras.Input((1,), name=name) for name in NUMERIC}
    return inputs | {name: keras.Input((1,), name=name, dtype="int32") for name in CATEGORICAL}


def build_tab_transformer():
    inputs = feature_inputs()
    numeric = layers.LayerNormalization(epsilon=1e-6)(
        layers.concatenate([inputs[name] for name in NUMERIC])
    )
    embedded = [
        layers.Embedding(count, 8)(ops.squeeze(inputs[name], -1))
        for name, count in CATEGORICAL.items()
    ]
    x = ops.stack(embedded, axis=1)
    x = x + layers.Embedding(len(CATEGORICAL), 8)(ops.arange(len(CATEGORICAL)))
    for _ in range(2):
        attended = layers.MultiHeadAttention(num_heads=2, key_dim=8, dropout=0.1)(x, x)
        x = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([attended, x]))
        forward = keras.Sequential([layers.Dense(12, activation="gelu"), layers.Dense(8)])(x)
        x = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([forward, x]))
    x = layers.concatenate([layers.Flatten()(x), numeric])
    for units in (16, 12):
        x = layers.BatchNormalization()(x)
        x = layers.Dropout(0.2)(layers.Dense(units, activation="selu")(x))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x), name="tab_transformer")


class GatedLinearUnit(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.linear = layers.Dense(units)
        self.sigmoid = layers.Dense(units, activation="sigmoid")

    def call(self, inputs):
        return self.linear(inputs) * self.sigmoid(inputs)


class GatedResidualNetwork(layers.Layer):
    def __init__(self, units, dropout_rate=0.1, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.elu_dense = layers.Dense(units, activation="elu")
        self.linear_dense = layers.Dense(units)
        self.dropout = layers.Dropout(dropout_rate)
        self.gated_linear_unit = GatedLinearUnit(units)
        self.layer_norm = layers.LayerNormalization()
        self.project = layers.Dense(units)

    def call(self, inputs):
        x = self.dropout(self.linear_dense(self.elu_dense(inputs)))
        if inputs.shape[-1] != self.units:
            inputs = self.project(inputs)
        return self.layer_norm(inputs + self.gated_linear_unit(x))


class VariableSelection(layers.Layer):
    def __init__(self, count, units, **kwargs):
        super().__init__(**kwargs)
        self.grns = [GatedResidualNetwork(units) for _ in range(count)]
        self.grn_concat = GatedResidualNetwork(units)
        self.softmax = layers.Dense(units=count, activation="softmax")

    def call(self, inputs):
        v = ops.expand_dims(self.softmax(self.grn_concat(ops.concatenate(inputs, -1))), axis=-1)
        x = ops.stack([grn(x) for grn, x in zip(self.grns, inputs, strict=True)], axis=1)
        return ops.squeeze(ops.matmul(ops.transpose(v, axes=[0, 2, 1]), x), axis=1)


class TemporalFusion(keras.Model):
    """Encodes named features, selects among them, and classifies."""

    def __init__(self, units=8):
        super().__init__()
        self.encoders = {name: layers.Dense(units) for name in NUMERIC}
        for name, count in CATEGORICAL.items():
            self.encoders[name] = layers.Embedding(count, units)
        self.selection = VariableSelection(len(self.encoders), units)
        self.grn = GatedResidualNetwork(12)
        self.head = layers.Dense(3)

    def call(self, inputs):
        encoded = []
        for name, encoder in self.encoders.items():
            x = inputs[name] if name in NUMERIC else ops.squeeze(inputs[name], axis=-1)
            encoded.append(encoder(x))
        return self.head(self.grn(self.selection(encoded)))


def build_temporal_fusion():
    model = TemporalFusion()
    features = {name: np.zeros((1, 1), "float32") for name in NUMERIC}
    model(features | {name: np.zeros((1, 1), "int32") for name in CATEGORICAL})
    return model


def build_wide_and_deep():
    inputs = feature_inputs()
    one_hot = [
        layers.CategoryEncoding(count, output_mode="one_hot")(inputs[name])
        for name, count in CATEGORICAL.items()
    ]
    wide = layers.BatchNormalization()(layers.concatenate(one_hot))
    deep = layers.concatenate(
        [
            layers.Flatten()(layers.Embedding(count, 4)(inputs[n]))
            for n, count in CATEGORICAL.items()
        ]
        + [inputs[name] for name in NUMERIC]
    )
    for units in (16, 12):
        deep = layers.Dense(units)(deep)
        deep = layers.Dropout(0.1)(layers.ReLU()(layers.BatchNormalization()(deep)))
    merged = layers.concatenate([wide, deep])
    outputs = layers.Dense(3, activation="softmax")(merged)
    return keras.Model(inputs, outputs, name="wide_and_deep")


class CrossLayer(layers.Layer):
    def build(self, input_shape):
        width = input_shape[0][-1]
        self.kernel = self.add_weight(shape=(width, width), name="kernel")
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")

    def call(self, inputs):
        x0, x = inputs
        return x0 * (ops.matmul(x, self.kernel) + self.bias) + x


class DeepAndCross(keras.Model):
    def __init__(self):
        super().__init__()
        self.embeddings = {name: layers.Embedding(n, 4) for name, n in CATEGORICAL.items()}
        self.crosses = [CrossLayer() for _ in range(2)]
        self.deep = keras.Sequential(
            [layers.Dense(16, activation="relu"), layers.Dense(12, activation="relu")]
        )
        self.logit = layers.Dense(1)

    def call(self, inputs):
        parts = [inputs[name] for name in NUMERIC]
        parts += [layer(inputs[name])[:, 0, :] for name, layer in self.embeddings.items()]
        x0 = x = ops.concatenate(parts, axis=-1)
        for cross in self.crosses:
            x = cross([x0, x])
        return self.logit(ops.concatenate([x, self.deep(x0)], axis=-1))


def build_deep_and_cross():
    model = DeepAndCross()
    features = {name: np.zeros((2, 1), "float32") for name in NUMERIC}
    model(features | {name: np.zeros((2, 1), "int32") for name in CATEGORICAL})
    return model


class Tower(layers.Layer):
    def __init__(self, count, width, **kwargs):
        super().__init__(**kwargs)
        self.embedding = layers.Embedding(count, width)
        self.hidden = [layers.Dense(14, activation="relu"), layers.Dense(width)]

    def call(self, ids):
        x = self.embedding(ids)
        for layer in self.hidden:
            x = layer(x)
        return x / ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + 1e-6)


class TwoTower(keras.Model):
    def __init__(self, width=8):
        super().__init__()
        self.towers = {"user": Tower(10, width), "item": Tower(12, width)}
        self.rating = keras.Sequential([layers.Dense(10, activation="relu"), layers.Dense(1)])

    def call(self, inputs):
        user, item = (self.towers[name](inputs[name]) for name in ("user", "item"))
        rating = self.rating(ops.concatenate([user, item], axis=1))
        return {"score": ops.sum(user * item, axis=-1, keepdims=True), "rating": rating}


def build_two_tower():
    model = TwoTower()
    model({"user": np.zeros((2,), "int32"), "item": np.zeros((2,), "int32")})
    return model


class RatingModel(keras.Model):
    """A dot product of embeddings, with a bias for each user and item."""

    def __init__(self, users=10, items=12, width=8, **kwargs):
        super().__init__(**kwargs)
        self.user_embedding = layers.Embedding(users, width)
        self.user_bias = layers.Embedding(users, 1)
        self.item_embedding = layers.Embedding(items, width)
        self.item_bias = layers.Embedding(items, 1)

    def call(self, inputs):
        user, item = inputs[:, 0], inputs[:, 1]
        dot = ops.einsum("bd,bd->b", self.user_embedding(user), self.item_embedding(item))
        return ops.sigmoid(dot[:, None] + self.user_bias(user) + self.item_bias(item))


def build_rating():
    model = RatingModel()
    model(np.zeros((2, 2), "int32"))
    return model


class Experts(layers.Layer):
    """Experts in a list, stacked, and a gate for each task that weighs them."""

    def __init__(self, experts, units, tasks, **kwargs):
        super().__init__(**kwargs)
        self.experts = [layers.Dense(units, activation="relu") for _ in range(experts)]
        self.gates = {task: layers.Dense(experts, activation="softmax") for task in tasks}

    def call(self, x):
        outputs = ops.stack([expert(x) for expert in self.experts], axis=2)
        return {
            task: ops.sum(outputs * ops.expand_dims(gate(x), axis=1), axis=2)
            for task, gate in self.gates.items()
        }


def build_mixture_of_experts():
    inputs = keras.Input((6,))
    mixed = Experts(3, 10, ["income", "married"])(layers.Dense(12, activation="relu")(inputs))
    outputs = {}
    for task, x in mixed.items():
        x = layers.Dense(8, activation="relu", name=f"tower_{task}")(x)
        outputs[task] = layers.Dense(2, name=task)(x)
    return keras.Model(inputs, outputs, name="mixture_of_experts")


class NeuralDecisionTree(keras.Model):
    """Routes by sigmoids through a tree, and mixes what the leaves say."""

    def __init__(self, depth=3, features=6, classes=4):
        super().__init__()
        self.depth, self.leaves, self.classes = depth, 2**depth, classes
        self.encoder = layers.Dense(12, activation="relu")
        self.used_features = np.eye(12, dtype="float32")[::2][:features]
        self.pi = self.add_weight(
            shape=(self.leaves, classes), initializer="random_normal", name="pi"
        )
        self.decision_fn = layers.Dense(self.leaves, activation="sigmoid", name="decision")

    def call(self, inputs):
        features = self.encoder(inputs)
        batch = ops.shape(features)[0]
        features = ops.matmul(features, ops.transpose(self.used_features))
        decisions = ops.expand_dims(self.decision_fn(features), axis=2)
        decisions = ops.concatenate([decisions, 1 - decisions], axis=2)
        mu = ops.ones([batch, 1, 1])
        begin, end = 1, 2
        for level in range(self.depth):
            mu = ops.reshape(mu, [batch, -1, 1])
            mu = ops.tile(mu, (1, 1, 2)) * decisions[:, begin:end, :]
            begin, end = end, end + 2 ** (level + 1)
        return ops.matmul(ops.reshape(mu, [batch, self.leaves]), ops.softmax(self.pi))


def build_decision_tree():
    model = NeuralDecisionTree()
    model(np.zeros((2, 6), "float32"))
    return model


class OrthogonalRegularizer(keras.regularizers.Regularizer):
    def __init__(self, num_features, l2reg=0.001):
        self.num_features, self.l2reg = num_features, l2reg
        self.eye = ops.eye(num_features)

    def __call__(self, x):
        x = ops.reshape(x, (-1, self.num_features, self.num_features))
        xxt = ops.tensordot(x, x, axes=(2, 2))
        xxt = ops.reshape(xxt, (-1, self.num_features, self.num_features))
        return ops.sum(self.l2reg * ops.square(xxt - self.eye))

    def get_config(self):
        return {"num_features": self.num_features, "l2reg": self.l2reg}


def conv_bn(x, filters):
    x = layers.Conv1D(filters, kernel_size=1, padding="valid")(x)
    x = layers.BatchNormalization(momentum=0.5)(x)
    return layers.Activation("relu")(x)


def dense_bn(x, units):
    x = layers.BatchNormalization(momentum=0.5)(layers.Dense(units)(x))
    return layers.Activation("relu")(x)


def tnet(inputs, num_features):
    x = conv_bn(conv_bn(inputs, 8), 12)
    x = dense_bn(layers.GlobalMaxPooling1D()(x), 10)
    x = layers.Dense(
        num_features * num_features,
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.Constant(np.eye(num_features).flatten()),
        activity_regularizer=OrthogonalRegularizer(num_features),
    )(x)
    transform = layers.Reshape((num_features, num_features))(x)
    return layers.Dot(axes=(2, 1))([inputs, transform])


def build_point_net():
    inputs = keras.Input((16, 3))
    x = conv_bn(tnet(inputs, 3), 8)
    x = conv_bn(tnet(x, 8), 12)
    x = layers.Dropout(0.3)(dense_bn(layers.GlobalMaxPooling1D()(x), 10))
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x), name="point_net")


class GraphConvolution(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.message = layers.Dense(units)
        self.own = layers.Dense(units, use_bias=False)

    def call(self, nodes, adjacency):
        degree = ops.sum(adjacency, axis=-1, keepdims=True)
        neighbours = ops.matmul(adjacency, self.message(nodes)) / (degree + 1e-6)
        return ops.relu(neighbours + self.own(nodes))


def build_graph_network():
    nodes, adjacency = keras.Input((6, 5), name="nodes"), keras.Input((6, 6), name="adjacency")
    x = GraphConvolution(10)(nodes, adjacency)
    x = GraphConvolution(12)(x, adjacency)
    x = layers.Dense(8, activation="relu")(layers.GlobalAveragePooling1D()(x))
    return keras.Model([nodes, adjacency], layers.Dense(3)(x), name="graph_network")


class GraphAttention(layers.Layer):
    """One head: a kernel and an attention kernel of weights of its own."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[0][-1], self.units), name="kernel")
        self.attention = self.add_weight(shape=(self.units, 2), name="kernel_attention")
        self.built = True

    def call(self, inputs):
        nodes, adjacency = inputs
        transformed = ops.matmul(nodes, self.kernel)
        scores = ops.matmul(transformed, self.attention)
        # No sum: of one example, Keras on TensorFlow would add the second one as a bias.
        scores = scores[:, :, None, 0] - -scores[:, None, :, 1]
        scores = ops.leaky_relu(scores, negative_slope=0.2)
        scores = ops.where(adjacency > 0, scores, ops.full_like(scores, -1e9))
        return ops.matmul(ops.softmax(scores, axis=-1), transformed)


class MultiHeadGraphAttention(layers.Layer):
    def __init__(self, units, heads=2, merge="concat", **kwargs):
        super().__init__(**kwargs)
        self.merge = merge
        self.attention_layers = [GraphAttention(units) for _ in range(heads)]

    def call(self, inputs):
        outputs = [layer(inputs) for layer in self.attention_layers]
        if self.merge == "concat":
            return ops.relu(ops.concatenate(outputs, axis=-1))
        return ops.relu(ops.mean(ops.stack(outputs, axis=-1), axis=-1))


class GraphAttentionNetwork(keras.Model):
    def __init__(self):
        super().__init__()
        self.preprocess = layers.Dense(8, activation="relu")
        self.attentions = [
            MultiHeadGraphAttention(4, merge="concat"),
            MultiHeadGraphAttention(8, merge="mean"),
        ]
        self.output_layer = layers.Dense(3)

    def call(self, inputs):
        nodes, adjacency = inputs["nodes"], inputs["adjacency"]
        x = self.preprocess(nodes)
        for attention in self.attentions:
            x = attention([x, adjacency]) + x
        return self.output_layer(x)


def build_graph_attention():
    model = GraphAttentionNetwork()
    model({"nodes": np.zeros((1, 6, 5), "float32"), "adjacency": np.ones((1, 6, 6), "float32")})
    return model


def feed_forward_network(widths):
    return keras.Sequential(
        [
            layer
            for width in widths
            for layer in (layers.BatchNormalization(), layers.Dense(width, activation="gelu"))
        ]
    )


class NodeClassifier(keras.Model):
    """Holds the whole graph as constants; its inputs are the numbers of nodes."""

    def __init__(self, node_features, edges, classes=3, **kwargs):
        super().__init__(**kwargs)
        self.node_features = ops.convert_to_tensor(node_features)
        self.edges = edges
        self.preprocess = feed_forward_network([10, 8])
        self.prepare = feed_forward_network([8])
        self.update = feed_forward_network([8])
        self.compute_logits = layers.Dense(classes)

    def convolve(self, nodes):
        source, target = self.edges
        messages = self.prepare(ops.take(nodes, target, axis=0))
        count = self.node_features.shape[0]
        collected = ops.segment_sum(messages, ops.convert_to_tensor(source), num_segments=count)
        return self.update(ops.concatenate([nodes, collected], axis=1))

    def call(self, node_indices):
        x = self.preprocess(self.node_features)
        x = self.convolve(x) + x
        return self.compute_logits(ops.take(x, node_indices, axis=0))


def build_node_classifier():
    rng = np.random.default_rng(0)
    model = NodeClassifier(rng.normal(size=(8, 6)).astype("float32"), rng.integers(0, 8, (2, 20)))
    model(np.arange(2))
    return model


class TrafficForecaster(keras.Model):
    """Graph convolution at each time, then a recurrence over the times of each road."""

    def __init__(self, adjacency, features=6, units=10, horizon=2, **kwargs):
        super().__init__(**kwargs)
        self.adjacency = adjacency / adjacency.sum(axis=1, keepdims=True)
        self.features = features
        self.lstm = layers.LSTM(units, activation="relu")
        self.dense = layers.Dense(horizon)

    def build(self, input_shape):
        self.weight = self.add_weight(shape=(input_shape[-1], self.features), name="weight")
        super().build(input_shape)

    def call(self, inputs):
        _, times, roads, _ = inputs.shape
        batch = ops.shape(inputs)[0]
        x = ops.transpose(inputs, [2, 0, 1, 3])
        gathered = ops.einsum("rs,sbtf->rbtf", self.adjacency, x)
        x = ops.relu(ops.concatenate([x @ self.weight, gathered @ self.weight], axis=-1))
        x = ops.reshape(x, (batch * roads, times, 2 * self.features))
        out = ops.reshape(self.dense(self.lstm(x)), (roads, batch, -1))
        return ops.transpose(out, [1, 2, 0])


def build_traffic():
    model = TrafficForecaster(np.eye(5, dtype="float32") + np.eye(5, k=1, dtype="float32"))
    model(np.zeros((1, 6, 5, 1), "float32"))
    return model
